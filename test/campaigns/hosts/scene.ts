/** The life of a guest on two hosts, step by step: who has the locks after each. */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually, type Finished } from '../../../src/lab/process.ts';
import { reexecute } from '../../../src/lab/start.ts';
import type { QmpEvent } from '../../support/qmp.ts';
import {
  type ClusterHost,
  faultsOf,
  followed,
  type Kind,
  type Place,
  type TwoHosts,
  type Watched,
  withoutImageLocks,
} from '../../support/two-hosts.ts';

export type Pair = readonly [Kind, Kind];

/** How things stand after a step. */
export interface Outcome {
  readonly step: string;
  /** The exit status of virsh, or null; and what it said, without what differs from run to run. */
  readonly code: number | null;
  readonly message: string;
  /**
   * By the disk's name: the host and kind of its lock, on the image and on the lock file. Disks without a lock are left out. Of hosts that
   * share one it is the one that has had it longest.
   */
  readonly locks: Readonly<Record<string, string>>;
  /** The guest's, on each host; empty where it is not. */
  readonly states: readonly [string, string];
  /** Kinds of moments in which the guest ran without its lock, or twice. */
  readonly faults: readonly string[];
}

/** Nothing has changed for so long. */
const SETTLED_MS = 120;
const LOOK_MS = 20;
const NAME = 'guest';
const SHARER = 'sharer';
const DISK = 'vda';
const disks = [
  'base',
  'overlay',
  'middle',
  'top',
  'copy',
  'copy2',
  'late',
  'hot',
  'floppy',
  'floppy2',
  'other',
  'shared',
] as const;
type DiskName = (typeof disks)[number];

export interface SceneOptions {
  readonly pair: Pair;
  readonly place: Place;
  /** Restart the lock daemons by SIGUSR1 before each step. */
  readonly restarts: boolean;
  readonly onStep?: (step: string) => void;
}

/** @throws Error when a step could not be made */
export async function play(hosts: TwoHosts, options: SceneOptions): Promise<readonly Outcome[]> {
  await hosts.start(options.pair, options.place);
  return new Scene(hosts, options).play();
}

class Scene {
  readonly #hosts: TwoHosts;
  readonly #options: SceneOptions;
  readonly #outcomes: Outcome[] = [];
  readonly #paths: Readonly<Record<DiskName, string>>;

  constructor(hosts: TwoHosts, options: SceneOptions) {
    this.#hosts = hosts;
    this.#options = options;
    const at = (disk: DiskName): string => hosts.gluster.at(`${disk}.img`);
    this.#paths = Object.fromEntries(disks.map((disk) => [disk, at(disk)])) as Record<DiskName, string>;
  }

  async play(): Promise<readonly Outcome[]> {
    const { node7, node8 } = this.#hosts;
    for (const disk of ['base', 'hot', 'floppy', 'floppy2', 'other', 'shared'] as const)
      this.#hosts.image(`${disk}.img`);
    await this.#start(node7);
    await this.#refuse(node8);
    await this.#share(node7, node8);
    await this.#migrate('base', node7, node8);
    await this.#virsh('has its other disk alone again', node8, 'destroy', SHARER);
    await this.#change(node8);
    await this.#fail(node8, node7);
    await this.#migrate('copy2', node8, node7);
    await this.#moveSaved(node7, node8);
    await this.#abortCommit(node8);
    await this.#virsh('is destroyed', node8, 'destroy', NAME);
    this.#remove('overlay', 'middle', 'top', 'copy', 'copy2', 'late');
    return this.#outcomes;
  }

  async #start({ libvirtd }: ClusterHost): Promise<void> {
    const { base, floppy, shared } = this.#paths;
    const disks = [{ image: base }, { image: shared, access: 'shareable' }] as const;
    const guest = followed({ name: NAME, disks, floppy, scsi: true });
    await this.#step('starts', async () => libvirtd.create(guest));
  }

  async #refuse({ libvirtd }: ClusterHost): Promise<void> {
    const second = withoutImageLocks({ name: 'second', disks: [{ image: this.#paths.base }] });
    await this.#step('another guest is refused its disk on the other host', async () => libvirtd.create(second));
  }

  /** Another guest has one of its disks too. That each of them has the lock is seen while the other has none. */
  async #share({ libvirtd }: ClusterHost, { libvirtd: there }: ClusterHost): Promise<void> {
    const { shared } = this.#paths;
    const sharer = { name: SHARER, disks: [{ image: shared, access: 'shareable' }] } as const;
    const second = withoutImageLocks({ name: 'second', disks: [{ image: shared }] });
    await this.#step('another guest shares its other disk on the other host', async () => there.create(sharer));
    await this.#step('a third one is refused it that would have it alone', async () => there.create(second));
    await this.#step('is suspended, and the other one still has it', async () => libvirtd.virsh('suspend', NAME));
    await this.#step('a third one is refused it again', async () => there.create(second));
    await this.#step('is resumed, and shares it again', async () => libvirtd.virsh('resume', NAME));
    await this.#step('the other one is suspended', async () => there.virsh('suspend', SHARER));
    await this.#step('the other one is resumed', async () => there.virsh('resume', SHARER));
  }

  async #migrate(disk: DiskName, from: ClusterHost, to: ClusterHost): Promise<void> {
    await this.#watched(`is migrated to ${to.name}`, disk, async () => this.#hosts.migrate(NAME, from, to));
  }

  async #moveSaved(from: ClusterHost, to: ClusterHost): Promise<void> {
    const file = this.#hosts.gluster.at('saved');
    await this.#watched('is saved', 'copy2', async () => from.libvirtd.virsh('save', NAME, file));
    await this.#watched('is restored on the other host', 'copy2', async () => to.libvirtd.virsh('restore', file));
  }

  /** Everything that libvirt can do with the disks of a guest that runs. */
  async #change(on: ClusterHost): Promise<void> {
    const { overlay, middle, top, copy, copy2, hot, floppy2 } = this.#paths;
    const commit = ['blockcommit', NAME, DISK, '--wait'];
    const copies = (dest: string): string[] => ['blockcopy', NAME, DISK, '--dest', dest, '--format', 'raw', '--wait'];
    const scsi = ['--live', '--targetbus', 'scsi', '--driver', 'qemu', '--subdriver', 'raw'];
    for (const [what, ...words] of [
      ['gets a snapshot', ...snapshotTo(overlay)],
      ['has it committed and is pivoted', ...commit, '--active', '--pivot'],
      ['gets a snapshot of two', ...snapshotTo(middle)],
      ['gets the other one', ...snapshotTo(top)],
      // libvirt keeps the base's lock.
      ['has the middle one committed', ...commit, '--top', middle],
      ['is copied, until it is ready', ...copies(copy)],
      ['has that aborted', 'blockjob', NAME, DISK, '--abort'],
      ['is copied again', ...copies(copy2)],
      ['is pivoted', 'blockjob', NAME, DISK, '--pivot'],
      ['gets a disk plugged', 'attach-disk', NAME, hot, 'sda', ...scsi],
      ['gets it unplugged', 'detach-disk', NAME, 'sda', '--live'],
      ['gets another floppy', 'change-media', NAME, 'fda', floppy2, '--update', '--live', '--force'],
      ['has it ejected', 'change-media', NAME, 'fda', '--eject', '--live', '--force'],
    ] as const)
      await this.#virsh(what, on, ...words);
  }

  /** libvirt keeps both locks, and could not commit again. */
  async #abortCommit(on: ClusterHost): Promise<void> {
    await this.#virsh('gets a snapshot there', on, ...snapshotTo(this.#paths.late));
    await this.#virsh('has it committed, until it is ready', on, 'blockcommit', NAME, DISK, '--active', '--wait');
    await this.#virsh('has that commit aborted', on, 'blockjob', NAME, DISK, '--abort');
  }

  /** Migrations that fail, for every reason. */
  async #fail(from: ClusterHost, to: ClusterHost): Promise<void> {
    const { copy2, other } = this.#paths;
    const fails = async (how: string, act: () => Promise<Finished>): Promise<void> => {
      await this.#watched(`its migration fails: ${how}`, 'copy2', act);
    };
    const killDestination = (): void => {
      const pid = pidIn(to);
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    };
    await fails('the destination is killed as it begins', async () => {
      const migration = this.#hosts.migrate(NAME, from, to);
      await eventually('there is a destination', () => pidIn(to));
      killDestination();
      return unsaid(await migration);
    });
    await fails('the destination is killed when it has all', async () =>
      unsaid(await this.#migrateFrozen(from, to, to.libvirtd.pid, 'MIGRATION completed', killDestination)),
    );
    // QEMU resumes the guest by itself then, and libvirt has no lock taken for it: no lock daemon has a part in that.
    await fails('the destination is killed when the source has stopped, before it has all', async () =>
      unsaid(await this.#migrateFrozen(from, to, from.daemon.pid, 'STOP', killDestination)),
    );
    await this.#virsh('is suspended', from, 'suspend', NAME);
    await this.#virsh('is resumed, with its lock', from, 'resume', NAME);
    const rival = await to.rival(this.#hosts.lockspace);
    await rival.must(this.#hosts.acquire(other));
    await fails('its disk there is another guest’s', async () => {
      const file = `${from.lab.directory}/other.xml`;
      const xml = await from.libvirtd.must('dumpxml', NAME, '--migratable');
      from.lab.write(file, xml.replace(`'${copy2}'`, `'${other}'`));
      return this.#hosts.migrate(NAME, from, to, '--xml', file);
    });
    await rival.must(this.#hosts.release(other));
    await fails('its lock is taken as nobody has it', async () =>
      this.#migrateFrozen(from, to, to.libvirtd.pid, 'MIGRATION completed', async () =>
        rival.must(this.#hosts.acquire(copy2)),
      ),
    );
    await this.#virsh('is not resumed', from, 'resume', NAME);
    await rival.must(this.#hosts.release(copy2));
    rival.close();
    await this.#virsh('is resumed when the lock is free', from, 'resume', NAME);
  }

  /**
   * Migrates the guest, and stops a process as the data begin to go. Acts at an event of the source, and lets the process go on: it can
   * do nothing in between.
   */
  async #migrateFrozen(
    from: ClusterHost,
    to: ClusterHost,
    pid: number,
    at: QmpEvent,
    act: () => unknown,
  ): Promise<Finished> {
    const over = new AbortController();
    const reached = new Promise<void>((resolve) => {
      over.signal.addEventListener('abort', () => {
        resolve();
      });
      void from.monitor(NAME).then(async (monitor) =>
        monitor.followRuns(over.signal, (event) => {
          if (event === 'MIGRATION active') process.kill(pid, 'SIGSTOP');
          if (event === at) resolve();
        }),
      );
    });
    const migration = this.#hosts.migrate(NAME, from, to).finally(() => {
      over.abort();
    });
    await reached;
    try {
      await act();
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    return migration;
  }

  async #virsh(what: string, { libvirtd }: ClusterHost, ...words: readonly string[]): Promise<void> {
    await this.#step(what, async () => libvirtd.virsh(...words));
  }

  async #step(step: string, act: () => Promise<Finished>, faults: () => readonly string[] = () => []): Promise<void> {
    this.#options.onStep?.(step);
    if (this.#options.restarts) for (const { daemon } of this.#hosts.hosts) await reexecute(daemon);
    const { code, stderr } = await act();
    const settled = await this.#settled();
    this.#outcomes.push({ step, code, message: this.#inGeneral(stderr), ...settled, faults: faults() });
  }

  /** A step with the guest on that disk. */
  async #watched(step: string, disk: DiskName, act: () => Promise<Finished>): Promise<void> {
    let watched: Watched | undefined;
    const watchedAct = async (): Promise<Finished> => {
      let finished: Finished | undefined;
      watched = await this.#hosts.watch(NAME, this.#paths[disk], async () => (finished = await act()));
      if (finished === undefined) throw new Error(`${step}: not done`);
      return finished;
    };
    await this.#step(step, watchedAct, () => [
      ...new Set((watched === undefined ? [] : faultsOf(watched)).map(({ kind }) => kind)),
    ]);
  }

  /** The locks and states once they do not change any more: a daemon frees what a guest had an instant after libvirt has answered. */
  async #settled(): Promise<Pick<Outcome, 'locks' | 'states'>> {
    let [locks, since] = [this.#locks(), performance.now()];
    while (performance.now() - since < SETTLED_MS) {
      await pause(LOOK_MS);
      const now = this.#locks();
      if (JSON.stringify(now) !== JSON.stringify(locks)) since = performance.now();
      locks = now;
    }
    const [one, two] = this.#hosts.hosts;
    return { locks, states: [await one.stateOf(NAME), await two.stateOf(NAME)] };
  }

  #locks(): Record<string, string> {
    const found: Record<string, string> = {};
    for (const disk of disks) {
      const path = this.#paths[disk];
      const file = this.#hosts.lockFileOf(path);
      const onImage = this.#hosts.lockOn(path);
      const onFile = file === path ? undefined : this.#hosts.lockOn(file);
      if (onImage !== undefined) found[disk] = onImage;
      if (onFile !== undefined) found[`${disk}, lock file`] = onFile;
    }
    return found;
  }

  /** Without paths of this run. */
  #inGeneral(text: string): string {
    let general = text;
    for (const disk of disks) {
      const path = this.#paths[disk];
      general = general.replaceAll(path, disk).replaceAll(this.#hosts.lockFileOf(path).replace(/.*\//, ''), disk);
    }
    return general.replaceAll(/\/\S*\//g, '').trim();
  }

  #remove(...names: readonly DiskName[]): void {
    for (const name of names) this.#hosts.remove(this.#paths[name]);
  }
}

/** The pid of the guest's QEMU there; undefined while it has none. */
function pidIn({ libvirtd }: ClusterHost): number | undefined {
  try {
    const pid = libvirtd.pidOf(NAME);
    return readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('qemu') ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** virsh's words for an external snapshot of the disk alone. */
const snapshotTo = (file: string): string[] =>
  ['snapshot-create-as', NAME, '--no-metadata', '--disk-only', '--atomic'].concat(
    ['--diskspec', `${DISK},file=${file}`],
    ['--diskspec', 'fda,snapshot=no'],
    ['--diskspec', 'vdb,snapshot=no'],
  );

/** Which of its calls libvirt was at, and so its words, is chance. */
const unsaid = (finished: Finished): Finished => ({ ...finished, stderr: '' });
