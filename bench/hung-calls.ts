/** How long a lock daemon takes for all that it can be asked, while a GlusterFS hangs on which a guest asks for a lock. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { DaemonKind } from '../src/lab/generation.ts';
import { Gluster } from '../src/lab/gluster.ts';
import { eventually } from '../src/lab/process.ts';
import { type LockDaemon, reexecute, startDaemon } from '../src/lab/start.ts';
import { checkout } from '../src/lab/trees.ts';
import { autocreate, encode, lock, type Peer } from '../src/lab/wire.ts';
import { Actor } from '../src/programs/conformance/exchange/actor.ts';

/** In the order of the table. */
export const questions = [
  'a call of another client',
  'a newcomer with its calls',
  '`virt-admin srv-list`',
  '`virt-lockctl status`',
  '`virt-lockctl list`',
  '`virt-lockctl check`',
  'the end of another owner',
  'SIGUSR1, until the next program serves',
  'SIGTERM, until the daemon has ended',
  'the call itself, once its storage answers',
] as const;
export type Question = (typeof questions)[number];

export interface Wait {
  /** Undefined: not within the limit. */
  readonly ms: number | undefined;
  /** Of a command: its exit status. */
  readonly code?: number | null | undefined;
}
export type Waits = Partial<Record<Question, Wait>>;

/**
 * Asks new daemons of one kind: for SIGUSR1 and SIGTERM there is one each.
 * @param hangs whether the storage does
 * @param limit in ms, for one answer
 */
export async function measureWaits(kind: DaemonKind, hangs: boolean, limit: number): Promise<Waits> {
  const waits: Waits = {};
  await withGuest(kind, hangs, async ({ daemon, gluster, neighbour, owner, answer }) => {
    const { lab } = daemon;
    const command = async (program: string, ...args: string[]): Promise<Wait> => {
      const run = lab.spawn(program, args);
      const wait = await within(limit, run.exited);
      if (wait.ms === undefined) await run.stop('SIGKILL');
      return { ...wait, code: run.finished?.code };
    };
    const path = (name: string): string => join(lab.directory, name);
    waits['a call of another client'] = await within(limit, neighbour.must(lock.acquire('', path('disk'), autocreate)));
    waits['a newcomer with its calls'] = await within(limit, arrive(daemon, 'newcomer', path('newcomer')));
    waits['`virt-admin srv-list`'] = await command('virt-admin', '-c', 'virtlockd:///system', 'srv-list');
    for (const word of ['status', 'list', 'check'] as const)
      waits[`\`virt-lockctl ${word}\``] = await command(join(checkout, 'bin/virt-lockctl'), word);
    const freed = eventually('it is free', () => !existsSync(path('owner')), limit);
    await owner.stop();
    waits['the end of another owner'] = await within(limit, freed);
    gluster.letGo();
    if (hangs) waits['the call itself, once its storage answers'] = await within(limit, answer);
  });
  await withGuest(kind, hangs, async ({ daemon }) => {
    waits['SIGUSR1, until the next program serves'] = await within(limit, reexecute(daemon, limit));
  });
  await withGuest(kind, hangs, async ({ daemon }) => {
    daemon.process.kill('SIGTERM');
    waits['SIGTERM, until the daemon has ended'] = await within(2 * limit, daemon.exited);
  });
  return waits;
}

async function within(limit: number, work: Promise<unknown>): Promise<Wait> {
  const before = performance.now();
  const done = work.then(
    () => true,
    () => false,
  );
  const isDone = await Promise.race([done, pause(limit, false, { ref: false })]);
  return { ms: isDone ? performance.now() - before : undefined };
}

interface Scene {
  readonly daemon: LockDaemon;
  readonly gluster: Gluster;
  /** Another client. */
  readonly neighbour: Peer;
  /** A process that has a lease on a healthy disk. */
  readonly owner: Actor;
  /** To the guest's call. */
  readonly answer: Promise<unknown>;
}

async function withGuest(kind: DaemonKind, hangs: boolean, act: (scene: Scene) => Promise<void>): Promise<void> {
  const daemon = await startDaemon(kind);
  const { lab } = daemon;
  const owner = Actor.start();
  const gluster = await Gluster.start(lab);
  try {
    await arrive(daemon, 'holder', gluster.at('held'));
    const neighbour = await arrive(daemon, 'neighbour', join(lab.directory, 'neighbour'));
    await takeItself(owner, daemon, join(lab.directory, 'owner'));
    const guest = await arrive(daemon, 'guest', join(lab.directory, 'guest'));
    if (hangs) await gluster.hang();
    const answer = guest.ask(lock.acquire('', gluster.at('disk'))).catch(() => undefined);
    if (hangs) await eventually('the call hangs', () => waitsForFuse(daemon.pid));
    else await answer;
    await act({ daemon, gluster, neighbour, owner, answer });
  } finally {
    gluster.letGo();
    await owner.stop();
    await daemon.process.stop('SIGKILL');
    await gluster.end();
    await lab.close();
  }
}

/** A connection comes for an owner, a process of the lab, and takes a lease. */
async function arrive(daemon: LockDaemon, name: string, lease: string): Promise<Peer> {
  const peer = await daemon.connect();
  const { pid } = daemon.lab.spawn('sleep', ['infinity']);
  await peer.must(lock.register({ pid, name }));
  await peer.must(lock.acquire('', lease, autocreate));
  return peer;
}

/** An owner that has its connection itself, as QEMU has, and takes a lease. */
async function takeItself(owner: Actor, daemon: LockDaemon, lease: string): Promise<void> {
  await owner.open('own', daemon.socket);
  await owner.send('own', encode({ ...lock.register({ pid: owner.pid, name: 'owner' }), serial: 1 }));
  await owner.send('own', encode({ ...lock.acquire('', lease, autocreate), serial: 2 }));
  await eventually('it has its lease', () => existsSync(lease));
}

/** Whether a process in the daemon's namespace of mounts waits for a FUSE file system. */
function waitsForFuse(daemon: number): boolean {
  const namespace = readlinkSync(`/proc/${daemon}/ns/mnt`);
  return readdirSync('/proc').some((pid) => {
    try {
      return (
        readlinkSync(`/proc/${pid}/ns/mnt`) === namespace &&
        /fuse|request_wait_answer/.test(readFileSync(`/proc/${pid}/wchan`, 'latin1'))
      );
    } catch {
      // No process, one that has ended, or another user's.
      return false;
    }
  });
}
