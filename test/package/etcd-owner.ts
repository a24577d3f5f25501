/**
 * An owner of locks in a booted machine. Prints its pid there, and takes lines: `acquire NAME` and `release NAME`, each answered with `ok` or
 * the error's message. It ignores SIGTERM, as a guest that is slow to end.
 *
 *   etcd-owner.ts LOCKSPACE
 */
import { createInterface } from 'node:readline';
import { autocreate, lock, Peer } from '../../src/lab/wire.ts';

const [, , lockspace = ''] = process.argv;
process.on('SIGTERM', () => undefined);
const peer = await Peer.connect('/run/libvirt/virtlockd-sock');
await peer.must(lock.register({ pid: process.pid, name: 'db' }));
await peer.must(lock.createLockspace(lockspace));
console.log(process.pid);
for await (const line of createInterface(process.stdin)) {
  const [verb, name = ''] = line.split(' ');
  const call = verb === 'acquire' ? lock.acquire(lockspace, name, autocreate) : lock.release(lockspace, name);
  console.log((await peer.ask(call))?.message ?? 'ok');
}
