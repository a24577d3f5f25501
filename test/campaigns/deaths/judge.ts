/** Finds errors in the facts of a run. */
import type { Death, Facts, Line, Operation, Span } from './facts.ts';
import { SUDDEN } from './ways.ts';

export interface Finding {
  readonly kind: string;
  readonly detail: string;
}

export interface Verdict {
  readonly findings: readonly Finding[];
  /** How many lines of libvirt's log and errors of operations there were for each accepted reason. */
  readonly accepted: Readonly<Record<string, number>>;
}

const overlap = (a: Span, b: Span): boolean => a.from <= b.to && b.from <= a.to;
const within = (at: number, span: Span): boolean => span.from <= at && at <= span.to;

/** An error that libvirt may report, and why. */
interface Reason {
  readonly why: string;
  readonly pattern: RegExp;
}

/** While a death interrupts an operation. */
const DIED: readonly Reason[] = [
  {
    why: 'the daemon died before it had answered the call',
    pattern: /End of file while reading data|Cannot recv data: Connection reset|Connection reset by peer/i,
  },
  {
    why: 'the daemon died before it had read the call',
    pattern: /Cannot write data: Broken pipe|closed socket|Failed to connect socket/i,
  },
  { why: "the call that died was made by QEMU's process before QEMU", pattern: /Child quit during startup handshake/ },
  { why: 'the acquire that died was undone, and libvirt releases what it has not got', pattern: /is not locked/ },
  { why: 'the call that died was a release', pattern: /Unable to release (?:lease|lock on)/ },
];

/** While a guest's QEMU is killed, with a death or without. */
const KILLED: readonly Reason[] = [
  {
    why: 'the QEMU that was killed had not read what libvirtd had sent to its monitor',
    pattern: /qemuMonitorIORead\S* : Unable to read from monitor: Connection reset by peer/,
  },
];

/** While systemd executes itself again: libvirt starts a guest's scope through it. */
const REEXECUTED: readonly Reason[] = [
  { why: 'systemd was executed again during the operation', pattern: /DBus\.Error\.NoReply/ },
];

/** During a migration, with a death or without: QEMU locks images by itself, beside the lock daemon's lock. */
const ACTIVATED: readonly Reason[] = [
  {
    why: "the process that the guest left had QEMU's own lock of an image yet",
    pattern: /unable to execute QEMU command 'cont': Failed to get "write" lock/,
  },
];

/** While a death interrupts a migration. */
const MIGRATED: readonly Reason[] = [
  { why: 'the release that died was of the host which the guest was to leave', pattern: /is locked/ },
  { why: 'the acquire that died was for the guest to go on where it was', pattern: /Failed to resume guest/ },
];

/**
 * While the socket units are started again: libvirt 9.0.0's libvirtd.service requires virtlockd.socket, so systemd restarts both. A guest's
 * scope starts after libvirtd.service, by libvirt's own order: where libvirtd is just starting a guest, its stop takes 30 s.
 */
const RESTARTED: readonly Reason[] = [
  {
    why: 'libvirtd was restarted during the operation',
    pattern:
      /Make forcefull daemon shutdown|virGDBusCallMethod|Disconnected from|connection which controls migration|migration successfully aborted|End of file while reading data|Failed to connect|client socket is closed|no valid connection|virProcessGetStartTime|qemuDomainMasterKeyReadFile|started on destination or not|job 'migration out'|qemuMonitorOpenUnix|qemuMonitorIORead|^$/i,
  },
  // What it had begun to start, its next process ends.
  { why: 'libvirtd was restarted, and has ended the guest', pattern: /Failed to destroy domain.*Domain not found/ },
];

/** How long libvirtd may take to find out, after its restart, which guests have ended, in ns. */
const RECONNECT = 5e9;

/** While a guest has none of its locks: see {@link isLeftBehind}. */
const LEFT: readonly Reason[] = [
  {
    why: 'libvirt releases what a guest that it has left behind has not got',
    pattern: /Unable to release (?:lease|lock on)|is not locked/,
  },
];

/** While a child of libvirtd is killed that hangs by itself: see src/lab/forks.ts. */
const FORKED: readonly Reason[] = [
  { why: "libvirtd's child had hung by itself, and was killed", pattern: /Child quit during startup handshake/ },
];

const isSudden = ({ way }: Death): boolean => SUDDEN.includes(way);

/** The last death before an instant, in words. */
function after(at: number, { deaths }: Facts): string {
  const last = deaths.findLast(({ from }) => from <= at);
  if (last === undefined) return 'before the first death';
  const place = last.place === undefined ? '' : ` (${last.place})`;
  return `${Math.round((at - last.from) / 1e6)} ms after ${last.way}${place}`;
}

/** Finds why libvirt may say this then; undefined if it may not. */
function reasonFor({ at, text }: Line, facts: Facts): string | undefined {
  const { deaths, operations, forks } = facts;
  const interrupted = operations.filter((operation) => within(at, operation));
  const isNear = (death: Death): boolean =>
    interrupted.some((operation) => overlap(death, operation)) ||
    (death.way === 'socket-restart' && within(at, { ...death, to: death.to + RECONNECT }));
  const near = deaths.filter(isNear);
  const reasons = [
    ...(near.some(isSudden) ? DIED : []),
    ...(interrupted.some(
      (one) => one.name === 'migrate' && near.some((death) => isSudden(death) && overlap(death, one)),
    )
      ? MIGRATED
      : []),
    ...(interrupted.some(({ name }) => name === 'migrate') ? ACTIVATED : []),
    ...(interrupted.some(({ name }) => name === 'kill') ? KILLED : []),
    ...(near.some(({ way }) => way === 'socket-restart') ? RESTARTED : []),
    ...(near.some(({ way }) => way === 'reexec') ? REEXECUTED : []),
    ...(interrupted.some(({ guest, from }) => isLeftBehind(guest, from, facts)) ? LEFT : []),
    ...(forks.some((killed) => interrupted.some((one) => within(killed, one))) ? FORKED : []),
  ];
  return reasons.find(({ pattern }) => pattern.test(text))?.why;
}

/** The rival has asked for a disk that was free during the operation, and has been faster. */
function isTaken(operation: Operation, { grants }: Facts): boolean {
  return grants.some((grant) => operation.files.includes(grant.file) && overlap(grant, operation));
}

function reasonForFailure(operation: Operation, text: string, facts: Facts): string | undefined {
  const why = reasonFor({ at: operation.to, text }, facts);
  if (why !== undefined) return why;
  return text.includes('is locked') && isTaken(operation, facts) ? 'the rival was faster at a free disk' : undefined;
}

/** These acquire all locks of a guest. */
const ACQUIRING: readonly string[] = ['create', 'restore', 'resume', 'migrate'];

/**
 * Whether a guest ran on then after a migration that restarts of the socket units had cut off: libvirtd has released its locks by then, and
 * its next process acquires none.
 */
function isLeftBehind(guest: string, at: number, { operations, deaths }: Facts): boolean {
  const last = operations
    .filter((one) => one.guest === guest && one.to <= at && ACQUIRING.includes(one.name))
    .reduce<Operation | undefined>(
      (latest, one) => (latest !== undefined && latest.to > one.to ? latest : one),
      undefined,
    );
  return (
    last?.name === 'migrate' &&
    last.error !== undefined &&
    deaths.some((death) => death.way === 'socket-restart' && overlap(death, last))
  );
}

export function judge(facts: Facts): Verdict {
  const { operations, free, grants, problems, log } = facts;
  const findings: Finding[] = problems.map(({ kind, detail }) => ({ kind, detail }));
  const accepted: Record<string, number> = {};
  const held = facts.held.filter(({ guest, from }) => !isLeftBehind(guest, from, facts));
  for (const { at, file } of free) {
    const span = held.find((one) => one.file === file && within(at, one));
    if (span !== undefined) {
      findings.push({
        kind: 'lock free',
        detail: `${file} of ${span.guest}, for ${Math.round((at - span.from) / 1e6)} ms, ${after(at, facts)}`,
      });
    }
  }
  for (const grant of grants) {
    const span = held.find((one) => one.file === grant.file && one.from <= grant.from && grant.to <= one.to);
    if (span !== undefined)
      findings.push({
        kind: 'granted to a rival',
        detail: `${span.file} of ${span.guest}, which ran, ${after(grant.to, facts)}`,
      });
  }
  const accept = (why: string | undefined, finding: Finding): void => {
    if (why === undefined) findings.push(finding);
    else accepted[why] = (accepted[why] ?? 0) + 1;
  };
  for (const operation of operations) {
    const { name, guest, from, error } = operation;
    if (error === undefined) continue;
    const detail = `${name} ${guest}, ${after(from, facts)}: ${error}`;
    accept(reasonForFailure(operation, error, facts), { kind: 'operation failed', detail });
  }
  for (const line of log) {
    accept(reasonFor(line, facts), { kind: "in libvirt's log", detail: `${after(line.at, facts)}: ${line.text}` });
  }
  return { findings, accepted };
}
