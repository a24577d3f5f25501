/** Makes the calls of clients around a re-execution, so that the functions that they need run. */
import path from 'node:path';
import { AdminClient, DEFAULT_LOCKSPACE, LockClient, RemoteFailure } from '../../src/client/index.ts';
import { eventually, programImage } from '../../src/lab/process.ts';

/** The timeout of each call and of the re-execution, in milliseconds. */
const LIMIT_MS = 60_000;

/** pid 0 is no process, so the daemon kills none. */
const OWNER = { uuid: new Uint8Array(16), name: 'warm', id: 1, pid: 0 };

/**
 * @param sockets the directory of a running daemon's sockets, in which this may create files
 * @throws Error when the daemon does not answer, or does not execute itself
 */
export async function warmUpDaemon(sockets: string, pid: number): Promise<void> {
  const at = (name: string): string => path.join(sockets, name);
  const connect = async (): Promise<LockClient> => LockClient.connect(at('virtlockd-sock'), { timeout: LIMIT_MS });
  const [caller, idle] = await Promise.all([connect(), connect()]);
  const admin = await AdminClient.connect(at('virtlockd-admin-sock'), { timeout: LIMIT_MS });
  const lockspace = at('lockspace');
  await idle.register(OWNER);
  await caller.register(OWNER);
  await caller.createLockspace(lockspace);
  await caller.acquire(DEFAULT_LOCKSPACE, at('held'), { autocreate: true });
  await caller.acquire(lockspace, 'shared', { shared: true, autocreate: true });

  const before = programImage(pid);
  process.kill(pid, 'SIGUSR1');
  await eventually('the daemon has executed itself again', () => programImage(pid) !== before, LIMIT_MS);
  const disk = at('disk');
  for (let round = 0; round < 2; round++) {
    await caller.register(OWNER).catch(refused);
    await caller.acquire(DEFAULT_LOCKSPACE, disk, { autocreate: true });
    await caller.acquire(DEFAULT_LOCKSPACE, disk, { autocreate: true }).catch(refused);
    await caller.release(DEFAULT_LOCKSPACE, disk);
    await admin.libVersion();
  }
  const newcomer = await connect();
  await newcomer.register(OWNER);
  await newcomer.acquire(lockspace, 'shared', { shared: true, autocreate: true });
  await newcomer.release(lockspace, 'shared');
  for (const client of [caller, idle, newcomer]) client.close();
  await admin.close();
}

/** Refusals are wanted: their functions run, too. */
function refused(error: unknown): void {
  if (!(error instanceof RemoteFailure)) throw error;
}
