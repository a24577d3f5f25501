/** systemd's protocols: listening sockets passed to the service, and notifications of its state. */

import { constants } from 'node:os';
import { parseName, type StoredName } from '../../store/names.ts';

/** A process's environment. Variables are removed once they are read, so that no child takes them for its own. */
export type Environment = Record<string, string | undefined>;

const { EAGAIN } = constants.errno;
/** Until what could not be sent is sent again, in milliseconds. */
const AGAIN_MS = 20;

/** The first passed descriptor. */
const FIRST_DESCRIPTOR = 3;
/** More than these are nothing that we have stored. */
const MAX_DESCRIPTORS = 65_536;

/** A passed descriptor and the name its socket unit gave it. */
interface PassedDescriptor {
  readonly fd: number;
  readonly name: string;
}

/**
 * The descriptors passed to this very process (sd_listen_fds_with_names(3)); none when LISTEN_PID names another. A
 * descriptor without a name is called `unknown`, as there. Removes LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.
 */
export function takeListenDescriptors(environment: Environment, pid: number): PassedDescriptor[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  delete environment.LISTEN_PID;
  delete environment.LISTEN_FDS;
  delete environment.LISTEN_FDNAMES;
  if (LISTEN_PID !== String(pid) || LISTEN_FDS === undefined || !/^[0-9]{1,5}$/.test(LISTEN_FDS)) return [];
  if (Number(LISTEN_FDS) > MAX_DESCRIPTORS) return [];
  const names = LISTEN_FDNAMES?.split(':') ?? [];
  return Array.from({ length: Number(LISTEN_FDS) }, (_, index) => ({
    fd: FIRST_DESCRIPTOR + index,
    name: names[index] ?? 'unknown',
  }));
}

/** Those that an earlier process of ours has left in the descriptor store, by their names there, and the others. */
export function sortStored(passed: readonly PassedDescriptor[]): {
  readonly stored: ReadonlyMap<StoredName, number>;
  readonly others: readonly PassedDescriptor[];
} {
  const stored = new Map<StoredName, number>();
  const others = passed.filter(({ fd, name }) => {
    const parsed = parseName(name);
    if (parsed !== undefined) stored.set(parsed, fd);
    return parsed === undefined;
  });
  return { stored, others };
}

/** The socket units, whose names say which socket is which. */
const SOCKET_UNITS = { lock: 'virtlockd.socket', admin: 'virtlockd-admin.socket' } as const;

/** The descriptors by server; `rest` is to be closed. */
export interface Activation {
  readonly lock: readonly number[];
  readonly admin: readonly number[];
  readonly rest: readonly number[];
}

/** Sorts passed descriptors by name, which systemd passes since version 227. */
export function sortActivation(passed: readonly PassedDescriptor[]): Activation {
  const named = (name: string): number[] => passed.filter((one) => one.name === name).map(({ fd }) => fd);
  const [lock, admin] = [named(SOCKET_UNITS.lock), named(SOCKET_UNITS.admin)];
  const known = new Set([...lock, ...admin]);
  return { lock, admin, rest: passed.map(({ fd }) => fd).filter((fd) => !known.has(fd)) };
}

/**
 * Where the system's systemd takes notifications of services. libvirt's unit may have no `Type=notify`, as in Debian 12, and then its daemon
 * leaves no NOTIFY_SOCKET to ours. systemd accepts them all the same, once it has read the package's unit.
 */
export const SYSTEM_SOCKET = '/run/systemd/notify';

/** Sends state to systemd; see sd_notify(3). */
export class Notifier {
  private readonly given: string | undefined;
  private readonly socket: string | undefined;
  /** In order, what could not be sent yet. */
  private readonly pending: string[] = [];
  private timer: NodeJS.Timeout | undefined;
  private readonly send: (path: string, data: Buffer) => number;

  /**
   * Takes NOTIFY_SOCKET out of the environment. Without it and `fallback`, nothing is sent.
   *
   * @param send sends a datagram to a UNIX socket, where a leading `@` means the abstract namespace; 0 or -errno
   */
  constructor(environment: Environment, send: (path: string, data: Buffer) => number, fallback?: string) {
    const { NOTIFY_SOCKET } = environment;
    delete environment.NOTIFY_SOCKET;
    this.given = NOTIFY_SOCKET !== undefined && /^[/@]./.test(NOTIFY_SOCKET) ? NOTIFY_SOCKET : undefined;
    this.socket = this.given ?? fallback;
    this.send = send;
  }

  /** The service manager's socket. */
  get path(): string | undefined {
    return this.socket;
  }

  /** For the environment of the successor, which goes on notifying: C would notify where it was not asked to. */
  get environment(): Environment {
    return this.given === undefined ? {} : { NOTIFY_SOCKET: this.given };
  }

  ready(): void {
    this.notify('READY=1');
  }

  stopping(): void {
    this.notify('STOPPING=1');
  }

  /**
   * Sends one state line; errors are ignored, as for sd_notify(3). But while the manager's queue is full, which what is stored and
   * removed may fill, the line is sent later: without READY=1 it would end the daemon in the end. Of several for one variable the last
   * one counts, and only that is sent then.
   */
  notify(state: string): void {
    const { pending } = this;
    const variable = variableOf(state);
    const isWaiting = pending.length > 0;
    const others = pending.filter((line) => variableOf(line) !== variable);
    pending.splice(0, Infinity, ...others, state);
    if (!isWaiting) this.sendPending();
  }

  /** Tries to send what waits. Returns whether all is sent. */
  flush(): boolean {
    if (this.pending.length > 0) this.sendPending();
    return this.pending.length === 0;
  }

  private sendPending(): void {
    const { socket, pending } = this;
    while (socket !== undefined && pending.length > 0) {
      if (this.send(socket, Buffer.from(`${pending[0] ?? ''}\n`)) === -EAGAIN) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => {
          this.sendPending();
        }, AGAIN_MS).unref();
        return;
      }
      pending.shift();
    }
    pending.length = 0;
  }
}

/** The variable of a line: WATCHDOG=1 and WATCHDOG_USEC=0 have two. */
function variableOf(line: string): string {
  return line.slice(0, line.indexOf('='));
}
