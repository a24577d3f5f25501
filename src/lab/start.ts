/** Starts lock daemons of every kind, the C one of any generation or this project's, each in a lab of its own. */
import { renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, type StartOptions } from './daemon.ts';
import type { DaemonKind } from './generation.ts';
import { GivenUp, executeAgain } from './process.ts';
import type { Lab } from './root.ts';
import { checkout, openLab } from './trees.ts';
import { lock } from './wire.ts';

export type LockDaemon = Daemon<Lab>;

export interface DaemonOptions extends StartOptions {
  /** The lab to start it in; default: a new one of its own generation (ours: 9.0.0), closed by stop(). */
  readonly lab?: Lab | undefined;
}

/** The file that starts that daemon, inside its lab. */
export function programOf(kind: DaemonKind): string {
  return kind === 'ours' ? join(checkout, 'bin/virtlockd') : '/usr/sbin/virtlockd';
}

/**
 * Puts a program at a path inside a lab, as an upgrade or a swap does: in one step, under the old one's feet.
 * The path becomes a link, because bin/virtlockd finds its parts beside itself.
 */
export function install(lab: Lab, program: string, at = '/usr/sbin/virtlockd'): void {
  const path = lab.outside(at);
  symlinkSync(program, `${path}.new`);
  renameSync(`${path}.new`, path);
}

/** Starts a lock daemon and waits until it answers. @throws Error with its log when it ends instead. */
export async function startDaemon(kind: DaemonKind, { lab, ...options }: DaemonOptions = {}): Promise<LockDaemon> {
  const daemon = Daemon.launch(lab ?? (await openLab(kind)), [programOf(kind)], options, lab === undefined);
  await daemon.accepts(`${kind} virtlockd`);
  return daemon;
}

/** As executeAgain, and waits until the new program answers. @throws Error with the log. */
export async function reexecute(daemon: LockDaemon, limit = 10_000): Promise<void> {
  try {
    await executeAgain(daemon.pid, limit, () => {
      if (daemon.finished !== undefined) throw new GivenUp('it has ended');
    });
    const peer = await daemon.connect();
    // Unregistered: an error, but an answer, and it comes from the new program.
    await peer.ask(lock.release('', 'none'));
    peer.close();
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${daemon.log}`, { cause: error });
  }
}
