/** Starts lock daemons, the C one of any generation or this project's, each in a lab of its own. */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, type StartOptions } from './daemon.ts';
import type { DaemonKind } from './generation.ts';
import { PROGRAM } from '../libvirt/paths.ts';
import { GivenUp, executeAgain } from './process.ts';
import type { Lab } from './root.ts';
import { checkout, openLab } from './trees.ts';
import { lock } from './wire.ts';

/** Where libvirt's program is once another has taken its place. */
export const C_PROGRAM = `${PROGRAM}.c`;

export type LockDaemon = Daemon<Lab>;

export interface DaemonOptions extends StartOptions {
  /** The lab to start it in; default: a new one of its own generation (ours: 9.0.0), closed by stop(). */
  readonly lab?: Lab | undefined;
}

/** The path of that daemon's program inside its lab. */
export function programOf(kind: DaemonKind): string {
  return kind === 'ours' ? join(checkout, 'bin/virtlockd') : PROGRAM;
}

/** Moves libvirt's program aside and puts another in its place. */
export function displace(lab: Lab, program: string): void {
  renameSync(lab.outside(PROGRAM), lab.outside(C_PROGRAM));
  lab.install(program);
}

/** Starts a lock daemon and waits until it answers. @throws Error with its log when it ends. */
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
    // An error, because this client has not registered; but an answer of the new program.
    await peer.ask(lock.release('', 'none'));
    peer.close();
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${daemon.log}`, { cause: error });
  }
}
