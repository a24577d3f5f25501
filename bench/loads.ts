/** The loads that run for a fixed time, and the ratios this daemon must reach in them. */

export interface Targets {
  /** Least ratio of rates to C 9.0.0. */
  readonly c?: number;
  /** Least ratio of rates to the floor. */
  readonly floor?: number;
  /** Least ratio to this daemon's own rate without idle connections. */
  readonly alone?: number;
}

export interface RateLoad {
  readonly id: string;
  readonly title: string;
  /** Registered connections that idle beside the load. */
  readonly idle: number;
  /** The load generator's command for that many seconds. */
  command(seconds: number): string;
  /** The floor keeps no state, so it cannot run loads whose calls depend on each other. */
  readonly floor: boolean;
  readonly targets: Targets;
}

const kinds: readonly Pick<RateLoad, 'id' | 'title' | 'command'>[] = [
  { id: 'register-1', title: 'REGISTER, 1 connection', command: (s) => `register 1 ${s}` },
  { id: 'register-16', title: 'REGISTER, 16 connections', command: (s) => `register 16 ${s}` },
  { id: 'acquire-1', title: 'ACQUIRE/RELEASE, 1 connection', command: (s) => `acquire 1 ${s}` },
  { id: 'acquire-16', title: 'ACQUIRE/RELEASE, 16 connections', command: (s) => `acquire 16 ${s}` },
  { id: 'cycle', title: 'connect, register, acquire, release, close', command: (s) => `cycle ${s}` },
];

const targets: Readonly<Record<string, Targets>> = {
  'register-1': { c: 1.05, floor: 0.85 },
  'register-16': { c: 1.8 },
  'acquire-1': { c: 1, floor: 0.8 },
  'acquire-16': { c: 1, floor: 0.8 },
  cycle: { c: 1.15, floor: 0.7 },
  'acquire-1@900': { c: 4, floor: 0.75 },
  'cycle@900': { c: 4 },
  'acquire-1@3900': { c: 14, floor: 0.75 },
};

/** Numbers of idle connections, in the order in which they are measured. */
export const idleSteps = [0, 900, 3900, 9900] as const;

export const rateLoads: readonly RateLoad[] = [
  ...idleSteps.flatMap((idle) =>
    kinds.map((kind) => {
      const id = idle === 0 ? kind.id : `${kind.id}@${idle}`;
      const title = idle === 0 ? kind.title : `${kind.title}, ${idle} idle`;
      return { ...kind, id, title, idle, floor: true, targets: targets[id] ?? (idle === 9900 ? { alone: 0.85 } : {}) };
    }),
  ),
  {
    id: 'shared',
    title: 'ACQUIRE SHARED/RELEASE of a resource with 1000 owners',
    idle: 0,
    command: (s: number): string => `shared 1000 ${s}`,
    floor: false,
    targets: {},
  },
].sort((a, b) => a.idle - b.idle);
