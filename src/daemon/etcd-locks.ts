/** The parts of locks in etcd, and the daemon around them. */
import { EtcdClient, startClient } from '../etcd/client.ts';
import { EtcdEngine } from '../etcd/engine.ts';
import { Guard, type GuardFacts, startGuard } from '../etcd/guard.ts';
import { marginOf } from '../etcd/lease.ts';
import { DEFAULT_ETCD, type EtcdSettings, isSameButCredentials, withoutPassword } from '../etcd/settings.ts';
import type { GuardState } from '../etcd/guard-state.ts';
import type { EtcdState } from '../etcd/state.ts';
import type { EtcdView } from '../inquire/etcd.ts';
import { logger } from '../log/log.ts';
import { reapChild } from '../posix/child.ts';
import { posix } from '../posix/posix.ts';
import type { Whole } from '../state/state.ts';
import type { Daemon } from './daemon.ts';

const log = logger('locking.etcd');
/** Of the margin. */
const WATCHDOG_SHARE = 15 / 16;

export interface EtcdLocksSettings {
  readonly settings: EtcdSettings;
  /** Of the previous program or process. */
  readonly carried?: EtcdState | undefined;
}

/** They lack the password. */
export function settingsIn({ settings }: EtcdState): EtcdSettings {
  return { ...DEFAULT_ETCD, ...(JSON.parse(settings) as Partial<EtcdSettings>) };
}

/** Ends the processes of a previous program that kept no lock in etcd, with other settings than this one's or where it keeps none at all. */
export function dismissEtcd({ client, guard: carried }: EtcdState, daemon: Daemon): void {
  if (client !== undefined) {
    posix.close(client.socket);
    reapChild(client.pid);
  }
  if (carried !== undefined) dismissGuard(carried, daemon);
}

/** Ends a guard that has nobody to guard any more. */
function dismissGuard(carried: GuardState, daemon: Daemon): void {
  const nothing = (): void => undefined;
  const link = {
    poller: daemon.poller,
    start: (_socket: number, _options: unknown, onEnd: () => void) => {
      onEnd();
    },
  };
  const end = (): void => {
    guard.end();
  };
  const observer = { changed: nothing, fired: nothing, cleared: nothing, fencing: nothing, died: end };
  const closing = (socket: number): void => {
    daemon.recorder.closing(socket);
  };
  const guard = new Guard({ fence: 'kill', isDismissed: true }, link, { ...observer, closing }, carried);
  // Those that have just given their locks back would be killed at a deadline that nobody moves on any more.
  guard.keep(new Set(), end);
}

export class EtcdLocks implements EtcdView {
  readonly engine: EtcdEngine;
  private readonly client: EtcdClient;
  private readonly daemon: Daemon;
  private readonly settings: EtcdSettings;
  private readonly carried: EtcdState | undefined;
  private guard: Guard | null = null;

  /** Starts nothing: see {@link start}. */
  constructor({ settings, carried }: EtcdLocksSettings, daemon: Daemon) {
    this.daemon = daemon;
    this.settings = settings;
    this.carried = carried;
    const { poller } = daemon;
    const changed = (): void => {
      daemon.recorder.helpersChanged();
    };
    const hasSame = carried !== undefined && isSameButCredentials(settingsIn(carried), settings);
    // One with other settings ends with its socket, which is not passed on.
    const process = hasSame ? carried.client : undefined;
    if (!hasSame && carried?.client !== undefined) {
      posix.close(carried.client.socket);
      reapChild(carried.client.pid);
    }
    this.client = new EtcdClient(settings, { poller, start: startClient, changed }, process);
    const clock = {
      now: () => posix.boottime(),
      setTimeout: (callback: () => void, milliseconds: number) => setTimeout(callback, milliseconds),
    };
    this.engine = new EtcdEngine(settings, this.client, {
      lockspaces: daemon.lockspaces,
      clock,
      changed,
      processOf: (hold) => daemon.ownerReaper.processOf(hold),
      closePidfd: (pidfd) => {
        posix.close(pidfd);
      },
      isAlive: (pidfd) => posix.pidfdSignal(pidfd, 0) === 0,
      killOwners: (holds) => {
        daemon.ownerReaper.endAtOnce(holds);
      },
    });
    if (carried?.lease !== undefined) this.engine.restore(carried.lease);
  }

  get state(): Whole<EtcdState> {
    return {
      settings: JSON.stringify(withoutPassword(this.settings)),
      lease: this.engine.lease.state,
      guard: this.guardState,
      client: this.client.state,
    };
  }

  /** Serves, now that everything is taken over. */
  start(): void {
    const { daemon, carried } = this;
    const { fence, watchdog, leaseSeconds } = this.settings;
    // One that guards nobody is replaced: it may be of another release, or have been started by a unit that allowed it less.
    const isNeeded = this.engine.count > 0;
    // A host that stands still from the deadline on is gone by the end of the lease, also where the device counts some percent too slowly.
    const watchdogSeconds = Math.max(Math.floor((marginOf(leaseSeconds) / 1000) * WATCHDOG_SHARE), 1);
    this.guard = new Guard(
      { fence, watchdog, watchdogSeconds },
      { poller: daemon.poller, start: startGuard },
      {
        changed: () => {
          daemon.recorder.helpersChanged();
        },
        closing: (socket) => {
          daemon.recorder.closing(socket);
        },
        fired: (count) => {
          this.engine.guardFired(count);
        },
        cleared: () => {
          log.warn('The owners that the guard has killed are gone');
        },
        fencing: (count, status) => {
          log.error(
            status === 0
              ? `${count} owners of locks in etcd could not be killed in time: the guard reboots this host`
              : `${count} owners of locks in etcd could not be killed in time, and this host is not rebooted: they may write while another host has their locks`,
          );
        },
        died: () => {
          this.engine.guardDied();
        },
      },
      isNeeded ? carried?.guard : undefined,
    );
    this.engine.start(this.guard);
    if (!isNeeded && carried?.guard !== undefined) dismissGuard(carried.guard, daemon);
  }

  get guardFacts(): GuardFacts | null {
    return this.guard?.properties ?? null;
  }

  get isGuarded(): boolean {
    return this.guard?.isReady === true;
  }

  /** Descriptors that are to outlive the daemon's death. */
  get keptSockets(): readonly number[] {
    const { guardState } = this;
    return guardState === undefined ? [] : [guardState.socket];
  }

  private get guardState(): EtcdState['guard'] {
    return this.guard === null ? this.carried?.guard : this.guard.state;
  }

  /** The daemon ends, and all owners that could be are ended. */
  async end(milliseconds: number): Promise<void> {
    await this.engine.end(milliseconds);
    this.guard?.end();
    this.client.end();
  }
}
