/** The messages between the daemon and its guard, as guard.h describes them. */
export const Operation = {
  STATUS: 1,
  ADD: 2,
  REMOVE: 3,
  ARM: 4,
  DISARM: 5,
  LIST: 6,
  /** Without being asked: owners were killed at the deadline; all those are gone; some are not gone in time. */
  FIRED: 16,
  CLEARED: 17,
  FENCING: 18,
} as const;
export type Operation = (typeof Operation)[keyof typeof Operation];

export const GuardFlag = {
  ARMED: 1,
  LOCKED_IN_MEMORY: 2,
  OOM_EXEMPT: 4,
  REALTIME: 8,
  WAKES_HOST: 16,
  FEEDS_WATCHDOG: 32,
  MAY_REBOOT: 64,
  OWNER_KILLED: 128,
} as const;

export const REQUEST_SIZE = 40;
export const ANSWER_SIZE = 56;
const NANOSECONDS = 1e6;

export interface Request {
  readonly operation: Operation;
  /** An owner, by the daemon's number; LIST: the place to go on from. */
  readonly token?: number;
  /** ARM: CLOCK_BOOTTIME in milliseconds. */
  readonly killAt?: number;
  readonly goneBy?: number;
}

export interface Answer {
  readonly operation: number;
  /** 0 or -errno. */
  readonly status: number;
  readonly serial: number;
  readonly token: number;
  /** CLOCK_BOOTTIME in milliseconds; 0: none. */
  readonly killAt: number;
  readonly goneBy: number;
  readonly flags: number;
  /** The guard's pid. */
  readonly process: number;
  readonly count: number;
  readonly next: number;
}

const request = new ArrayBuffer(REQUEST_SIZE);
const requestWords = new Uint32Array(request);
const requestLongs = new BigInt64Array(request);
const answer = new ArrayBuffer(ANSWER_SIZE + 8);
const answerWords = new Int32Array(answer);
const answerLongs = new BigInt64Array(answer);

/** Where a request is written, and an answer is received, until the next one. */
export const output = Buffer.from(request);
export const input = Buffer.from(answer);

const nanoseconds = (milliseconds: number): bigint => BigInt(Math.round(milliseconds * NANOSECONDS));

/** Writes a request into {@link output}. */
export function writeRequest(serial: number, { operation, token = 0, killAt = 0, goneBy = 0 }: Request): void {
  requestWords[0] = operation;
  requestWords[1] = 0;
  requestLongs[1] = BigInt(serial);
  requestLongs[2] = BigInt(token);
  requestLongs[3] = nanoseconds(killAt);
  requestLongs[4] = nanoseconds(goneBy);
}

/** Reads the answer in {@link input}. */
export function readAnswer(): Answer {
  const word = (index: number): number => answerWords[index] ?? 0;
  const long = (index: number): number => Number(answerLongs[index] ?? 0n);
  return {
    operation: word(0),
    status: word(1),
    serial: long(1),
    token: long(2),
    killAt: long(3) / NANOSECONDS,
    goneBy: long(4) / NANOSECONDS,
    flags: word(10),
    process: word(11),
    count: word(12),
    next: word(13),
  };
}
