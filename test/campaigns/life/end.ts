/** One owner's end, from its first write to the last rival's answer. */
import { setTimeout as pause } from 'node:timers/promises';
import { existsSync } from 'node:fs';
import { AdminClient } from '../../../src/client/admin-client.ts';
import { lockOfAny } from '../../../src/lab/observe.ts';
import { eventually } from '../../../src/lab/process.ts';
import { lock } from '../../../src/lab/wire.ts';
import { Child, type Line, now, PATIENCE } from './children.ts';
import type { EndFacts, RivalLine } from './facts.ts';
import type { Hosts } from './hosts.ts';
import { type EndPlan, isDaemonEnd, type RivalPlan } from './plan.ts';
import type { Disk } from './storage.ts';

/** The output of native/writer.c. */
interface WriterLine extends Line {
  readonly is:
    'registered' | 'acquired' | 'writing' | 'ending' | 'hung-up' | 'ended' | 'replaced' | 'helper' | 'closed' | 'left';
}

/** For how long an owner may be seen after its daemon has ended, which ends it first. */
const LEFT_BY_DAEMON_MS = 1000;
/** For how long a helper is watched after it has let go of the connection: a signal that it does not deserve would have come. */
const HELPER_LIVES_MS = 300;
/** Above every pid, so that the end of a rival's connection ends no process. */
const NOBODY = 5_000_000;

export class End {
  readonly plan: EndPlan;
  readonly #hosts: Hosts;
  readonly #lane: number;
  readonly #disks: readonly Disk[];
  readonly #writer: Child<WriterLine>;
  readonly #problems: string[] = [];
  #rivals: Child<RivalLine> | undefined;
  #began: number | undefined;
  /** When the daemon has closed its connection. */
  #hungUp: number | undefined;

  /** @param name unique in this storage */
  constructor(hosts: Hosts, plan: EndPlan, lane: number, name: string) {
    this.plan = plan;
    this.#hosts = hosts;
    this.#lane = lane;
    this.#disks = Array.from({ length: plan.disks }, (_, i) => hosts.storage.makeDisk(`${name}-${i}`, plan));
    const [{ lockspace, flags }] = this.#disks as readonly [Disk, ...Disk[]];
    const socket = plan.way.cause === 'daemon-end-unconnected' ? '-' : hosts.daemon('own').socket;
    const disks = this.#disks.flatMap(({ names: { name: resource }, image }) => [resource, image]);
    this.#writer = new Child('writer', [socket, plan.way.behaviour, lockspace, String(flags), ...disks]);
  }

  /** The owner has its locks and writes. */
  async own(): Promise<void> {
    const { plan } = this;
    await this.#writer.line('registered');
    if (plan.byProxy) await this.#acquireFor(this.#writer.pid);
    else {
      this.#writer.tell('acquire');
      await this.#writer.line('acquired');
    }
    if (plan.hangs === 'fsync') this.#writer.tell('sync');
    this.#writer.tell('write');
    await this.#writer.line('writing');
  }

  /** Every rival has asked once, and been refused. */
  async contest(): Promise<void> {
    const { plan } = this;
    this.#rivals = new Child<RivalLine>('rivals', [String(this.#writer.pid)]);
    this.#rivals.tell(`${plan.rivals.map((rival, index) => this.#order(rival, index)).join('\n')}\n`);
    await this.#rivals.line('asking');
    await pause(plan.delay);
  }

  /** Its end begins; when that is the daemon's, the caller sees to it after this. */
  async cause(): Promise<void> {
    const { cause, behaviour } = this.plan.way;
    const writer = this.#writer;
    if (behaviour === 'hung') await this.#hosts.storage.hang(this.#disks, this.plan.hangs);
    switch (cause) {
      case 'close':
      case 'half-close':
      case 'bad-length':
        writer.tell(cause);
        this.#began = (await writer.line('ending')).at;
        break;
      case 'disconnect':
        await this.#disconnect();
        break;
      case 'kill':
        writer.kill('SIGKILL');
        break;
      case 'helper':
        writer.tell('fork');
        await writer.line('helper');
        writer.kill('SIGKILL');
        break;
      case 'daemon-end':
      case 'daemon-end-unconnected':
        if (behaviour === 'stopped') writer.kill('SIGSTOP');
        this.#began = now();
    }
  }

  /** Waits until all of it is over. */
  async finish(): Promise<void> {
    const { way } = this.plan;
    if (way.behaviour === 'hung') await this.#keepHanging();
    else if (way.cause === 'helper') await this.#watchHelper();
    // Once the daemon has ended, nothing ends an owner that it has left.
    const patience = isDaemonEnd(way) ? LEFT_BY_DAEMON_MS : PATIENCE;
    if ((await this.#writer.until(() => this.#writer.hasEnded || undefined, patience)) !== true) {
      this.#problems.push('the owner was left alive');
      this.#writer.kill('SIGKILL');
    }
    await this.#awaitRivals();
    if (this.#problems.length === 0) await this.#lookAfterwards();
  }

  get facts(): EndFacts {
    return {
      plan: this.plan,
      began: this.#began,
      hungUp: this.#hungUp ?? this.#writer.lines.find(({ is }) => is === 'hung-up')?.at,
      lines: this.#rivals?.lines ?? [],
      last: this.#disks.map((disk) => this.#hosts.storage.lastWrite(disk)),
      problems: this.#problems,
    };
  }

  /** Whatever has become of it, nothing of it is left. */
  async stop(): Promise<void> {
    this.#hosts.storage.answer(this.#disks);
    await Promise.all([this.#writer.stop(), this.#rivals?.stop()]);
  }

  /** As libvirtd does: over a connection for the owner, closed at once. */
  async #acquireFor(pid: number): Promise<void> {
    const peer = await this.#hosts.daemon('own').connect();
    try {
      await peer.must(lock.register({ pid }));
      for (const { lockspace, names, flags } of this.#disks) {
        await peer.must(lock.acquire(lockspace, names.name, flags));
      }
    } finally {
      peer.close();
    }
  }

  /** A line for native/rivals.c. */
  #order({ host, does, alias, disk: index, patience }: RivalPlan, number: number): string {
    const disk = this.#disks[index];
    if (disk === undefined) throw new Error(`no disk ${index}`);
    const { lockspace, names, image, flags } = disk;
    // AUTOCREATE as the place wants it; SHARED as the rival does.
    const wanted = (flags & 2) | (does === 'share' ? 1 : 0);
    const kind = does === 'share' ? 'acquire' : does;
    const owner = NOBODY + this.#lane * 64 + number;
    const socket = this.#hosts.daemon(host).socket;
    const mark = does === 'acquire' ? image : '';
    return [socket, kind, lockspace, names[alias], wanted, mark, owner, patience].join('\t');
  }

  async #disconnect(): Promise<void> {
    const admin = await AdminClient.connect(this.#hosts.daemon('own').adminSocket);
    try {
      for (const { id } of await admin.clients('virtlockd')) {
        // A rival that was impatient may be gone by now.
        const identity = await admin.clientInfo('virtlockd', id).catch(() => undefined);
        if (identity?.processId !== this.#writer.pid) continue;
        this.#began = now();
        await admin.closeClient('virtlockd', id);
        this.#hungUp = now();
        return;
      }
    } finally {
      await admin.close();
    }
    throw new Error('the writer is not among the clients');
  }

  /** While its storage does not answer, the owner cannot end, and its locks stay. */
  async #keepHanging(): Promise<void> {
    const { plan } = this;
    if (plan.pause === null) {
      const rivals = this.#rivals;
      const isRefused = (): boolean | undefined =>
        this.#isOver(rivals?.lines ?? []) || (rivals?.hasEnded === true ? false : undefined);
      if ((await rivals?.until(isRefused, PATIENCE)) !== true)
        this.#problems.push(rivals?.failure ?? 'rivals were left waiting');
    } else await pause(plan.pause);
    for (const { lockFile } of this.#disks) {
      const held = existsSync(lockFile) ? lockOfAny(lockFile) : undefined;
      const wanted = `${plan.shared ? 'READ' : 'WRITE'} 0 0`;
      if (held !== wanted) this.#problems.push(`the lock of an owner in state D is ${held ?? 'gone'}, not ${wanted}`);
    }
    this.#hosts.storage.answer(this.#disks);
  }

  /** Everybody on the own host who asks for what the owner holds has been answered after the 3 s; or granted, which is a finding. */
  #isOver(lines: readonly RivalLine[]): boolean {
    const overdue = (this.#began ?? 0) + 3e9;
    const answers = lines.filter(({ is }) => is === 'answer');
    const waiting = this.plan.rivals.flatMap(({ host, does, patience }, index) =>
      host === 'own' && does === 'acquire' && patience === 0 ? [index] : [],
    );
    const isGranted = answers.some(
      ({ code, gone, rival = -1 }) => code === 0 && gone === false && this.plan.rivals[rival]?.does === 'acquire',
    );
    return isGranted || waiting.every((index) => answers.some(({ rival, at }) => rival === index && at >= overdue));
  }

  /** The owner is dead but its connection lives: the process that has it now must not be signalled. */
  async #watchHelper(): Promise<void> {
    const writer = this.#writer;
    await pause(this.plan.pause ?? 0);
    writer.tellHelper('close');
    const seen = async (is: WriterLine['is']): Promise<boolean> =>
      (await writer.until(() => writer.lines.find((line) => line.is === is), PATIENCE)) !== undefined;
    const hasClosed = await seen('closed');
    await pause(HELPER_LIVES_MS);
    writer.tellHelper('leave');
    if (!hasClosed || !(await seen('left'))) this.#problems.push('the helper of a dead owner was killed');
  }

  async #awaitRivals(): Promise<void> {
    const rivals = this.#rivals;
    if (rivals === undefined) return;
    const isDone = (): RivalLine | undefined => rivals.lines.find(({ is }) => is === 'done');
    const failed = (): RivalLine | null | undefined => isDone() ?? (rivals.failure === undefined ? undefined : null);
    const done = await rivals.until(failed, PATIENCE);
    if (rivals.failure !== undefined) this.#problems.push(`rivals: ${rivals.failure}`);
    else if (done === undefined) this.#problems.push('not free although the owner is gone');
  }

  /** No lock is left, and no file that AUTOCREATE made. */
  async #lookAfterwards(): Promise<void> {
    const { plan } = this;
    // Two hosts that let go of a shared file at once both find the other there, and leave it, as C does.
    const mayStay = plan.rivals.some(({ host, does }) => host === 'other' && does === 'share') && plan.shared;
    for (const { lockFile } of this.#disks) {
      const left = (): string[] => {
        if (!existsSync(lockFile)) return [];
        const file = plan.place !== 'direct' && !mayStay ? ['its file'] : [];
        // Of whichever process: a daemon has its pid file locked, which may have the same number on another file system.
        const lock = lockOfAny(lockFile);
        return lock === undefined ? file : [...file, lock];
      };
      try {
        await eventually('free', () => left().length === 0, PATIENCE / 4);
      } catch {
        this.#problems.push(`${plan.place} lock left: ${left().join(', ')}`);
      }
    }
  }
}
