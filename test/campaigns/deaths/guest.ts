/** One guest, to which the campaign does all that libvirt has locks for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { migration } from '../../../src/lab/libvirtd.ts';
import { eventually } from '../../../src/lab/process.ts';
import type { Random } from '../../../src/programs/fuzz/random.ts';
import { type Held, now, type Operation, type Problem } from './facts.ts';
import type { Disks, Host } from './host.ts';
import type { Libvirt } from './libvirt.ts';

type State = 'absent' | 'running' | 'paused' | 'saved';

const AFTER = {
  create: 'running',
  restore: 'running',
  resume: 'running',
  suspend: 'paused',
  save: 'saved',
  destroy: 'absent',
  kill: 'absent',
  migrate: 'running',
  'attach-disk': 'running',
  'detach-disk': 'running',
  'change-media': 'running',
} as const satisfies Record<string, State>;
export type Name = keyof typeof AFTER;

/** What may be done next in a state, some of it more often. */
const CHOICES: Readonly<Record<State, readonly (Name | 'plug' | 'rest')[]>> = {
  absent: ['create'],
  running: ['suspend', 'save', 'destroy', 'kill', 'migrate', 'migrate', 'plug', 'plug', 'change-media', 'rest', 'rest'],
  paused: ['resume', 'resume', 'resume', 'destroy', 'rest'],
  saved: ['restore'],
};

/** How long one operation may take, in s: seconds on a busy machine, and the watchdog's interval. */
const PATIENCE_S = 60;
/** How long a question about its state may take. */
const PROBE_S = 10;
const REST_MS = 500;

/** The disk that is plugged, and the drive whose medium is changed. */
const EXTRA = 'sda';
const DRIVE = 'fda';

export class Guest {
  readonly name: string;
  readonly disks: Disks;
  readonly held: Held[] = [];
  readonly operations: Operation[] = [];
  readonly problems: Problem[] = [];
  readonly #host: Host;
  readonly #random: Random;
  readonly #xml: string;
  readonly #file: string;
  #state: State = 'absent';
  /** Where it is, or was last. */
  #at: Libvirt;
  #isPlugged = false;
  #medium: string | undefined;
  /** The files whose lock it must have now, and since when. */
  readonly #since = new Map<string, number>();
  #isStopped = false;
  #run: Promise<void> = Promise.resolve();

  constructor(host: Host, name: string, random: Random) {
    this.name = name;
    this.#host = host;
    this.#random = random;
    this.#at = host.main;
    const { disks, xml } = host.describe(name);
    this.disks = disks;
    this.#xml = xml;
    this.#file = join(host.machine.directory, `${name}.save`);
  }

  /** The disks whose lock it must have now. */
  get heldFiles(): readonly string[] {
    return [...this.#since.keys()];
  }

  /** Begins to do one thing after the other. */
  start(): void {
    this.#isStopped = false;
    this.#run = this.#live();
  }

  /** Waits for what is being done, and does no more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#run;
  }

  /** Ends it for good. */
  async end(): Promise<void> {
    await this.stop();
    if (this.#state === 'running' || this.#state === 'paused') await this.perform('destroy');
  }

  /** Each operation once, before the first death: what libvirtd logs then is ordinary. */
  async rehearse(): Promise<void> {
    for (const name of ['create', 'suspend', 'resume', 'attach-disk', 'detach-disk'] as const) await this.perform(name);
    for (let i = 0; i < 3; i++) await this.perform('change-media');
    for (const name of ['migrate', 'migrate', 'save', 'restore', 'destroy', 'create'] as const) {
      await this.perform(name);
    }
    await this.#host.main.restart();
    await this.#host.peer.restart();
    await this.perform('kill');
  }

  /** Brings it where an operation can be done. False if that did not succeed. */
  async prepare(name: Name): Promise<boolean> {
    for (let step = this.#stepTo(name); step !== undefined; step = this.#stepTo(name)) {
      if ((await this.perform(step)) !== undefined) return false;
    }
    return true;
  }

  /** What must come before an operation; undefined if nothing. */
  #stepTo(name: Name): Name | undefined {
    const wanted = ({ create: 'absent', restore: 'saved', resume: 'paused' } as Partial<Record<Name, State>>)[name];
    if (this.#state !== (wanted ?? 'running')) {
      if (this.#state !== 'running')
        return ({ absent: 'create', paused: 'resume', saved: 'restore' } as const)[this.#state];
      return wanted === 'absent' ? 'destroy' : wanted === 'saved' ? 'save' : 'suspend';
    }
    if (name === 'attach-disk' && this.#isPlugged) return 'detach-disk';
    if (name === 'detach-disk' && !this.#isPlugged) return 'attach-disk';
    return undefined;
  }

  async #live(): Promise<void> {
    while (!this.#isStopped) {
      const choice = this.#random.pick(CHOICES[this.#state]);
      if (choice === undefined || choice === 'rest') await this.#rest();
      else if (choice === 'plug') await this.perform(this.#isPlugged ? 'detach-disk' : 'attach-disk');
      else await this.perform(choice);
    }
  }

  async #rest(): Promise<void> {
    await pause(this.#random.below(REST_MS));
    if (this.#state === 'running' && !this.#isAlive()) this.#isLost();
  }

  /** Returns libvirt's error; undefined on success. */
  async perform(name: Name): Promise<string | undefined> {
    const from = now();
    const files = this.#filesOf(name);
    for (const file of files) this.#release(file, from);
    const error = await this.#execute(name);
    const to = now();
    this.operations.push({ guest: this.name, name, files, from, to, error });
    if (error === undefined) this.#succeeded(name);
    else await this.#look(name);
    if (this.#state === 'running') {
      for (const file of this.#locked()) if (!this.#since.has(file)) this.#since.set(file, to);
    }
    if (error !== undefined) await pause(REST_MS);
    return error;
  }

  #next(): string | undefined {
    const { media } = this.disks;
    return this.#medium === undefined ? media[0] : this.#medium === media[0] ? media[1] : undefined;
  }

  /** The disks of which it need not have the lock throughout an operation. */
  #filesOf(name: Name): readonly string[] {
    const { image, shared, extra, media } = this.disks;
    if (name === 'attach-disk' || name === 'detach-disk') return [extra];
    return name === 'change-media' ? media : [image, shared, extra, ...media];
  }

  /** The disks whose lock it must have while it runs. */
  #locked(): readonly string[] {
    const { image, shared, extra } = this.disks;
    return [image, shared, ...(this.#isPlugged ? [extra] : []), ...(this.#medium === undefined ? [] : [this.#medium])];
  }

  #command(name: Exclude<Name, 'kill'>): readonly string[] {
    const { extra } = this.disks;
    const next = this.#next();
    const raw = ['--driver', 'qemu', '--subdriver', 'raw', '--sourcetype', 'file', '--targetbus', 'scsi'];
    const other = this.#other();
    switch (name) {
      case 'create':
        return ['create', this.#xml];
      case 'restore':
        return ['restore', this.#file];
      case 'save':
        return ['save', this.name, this.#file];
      case 'resume':
      case 'suspend':
      case 'destroy':
        return [name, this.name];
      case 'migrate':
        return migration(this.name, other.uri, `${this.#file}-socket`);
      case 'attach-disk':
        return [name, this.name, extra, EXTRA, ...raw];
      case 'detach-disk':
        return [name, this.name, EXTRA];
      case 'change-media':
        if (next === undefined) return [name, this.name, DRIVE, '--eject'];
        return [name, this.name, DRIVE, next, this.#medium === undefined ? '--insert' : '--update'];
    }
  }

  async #execute(name: Name): Promise<string | undefined> {
    if (name === 'kill') return this.#kill();
    const { code, stderr } = await this.#at.virshWithin(PATIENCE_S, ...this.#command(name));
    if (code === 124) this.problems.push({ at: now(), kind: 'call hangs', detail: `virsh ${name} ${this.name}` });
    return code === 0 ? undefined : stderr.trim().replaceAll('\n', ' ');
  }

  async #kill(): Promise<string | undefined> {
    const pid = this.#at.pidOf(this.name);
    if (pid === undefined) return 'there is no pid file';
    await this.#host.run('kill', '-9', String(pid));
    try {
      const isGone = async (): Promise<boolean> => (await this.#shown(this.#at)) === 'absent';
      await eventually('libvirt notices', isGone, PATIENCE_S * 1000);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  #other(): Libvirt {
    const { main, peer } = this.#host;
    return this.#at === main ? peer : main;
  }

  #succeeded(name: Name): void {
    if (name === 'create') this.#medium = this.disks.media[0];
    if (name === 'create' || name === 'detach-disk') this.#isPlugged = false;
    if (name === 'attach-disk') this.#isPlugged = true;
    if (name === 'change-media') this.#medium = this.#next();
    if (name === 'migrate') this.#at = this.#other();
    this.#state = AFTER[name];
  }

  /** After a failed operation, the guest may be in the state before or after it, but in no other. */
  async #look(name: Name): Promise<void> {
    const wasSaved = this.#state === 'saved';
    const seen = await this.#find(name);
    // After a failed restore the saved file still exists. After a failed save there is none that can be used.
    this.#state = seen === 'absent' && wasSaved ? 'saved' : seen;
    if (seen !== 'absent') await this.#lookAtDisks();
    else if (!wasSaved && !['create', 'save', 'destroy', 'kill'].includes(name)) this.#isLost();
  }

  /** Its state, on the one host or the other. A failed migration may leave it on both. */
  async #find(name: Name): Promise<State> {
    const here = await this.#shown(this.#at);
    if (name !== 'migrate') return here;
    const there = await this.#shown(this.#other());
    if (there === 'absent') return here;
    if (here === 'running' && there === 'running') {
      this.problems.push({ at: now(), kind: 'runs twice', detail: this.name });
    }
    // The operator's part, if the two libvirtds cannot agree: the copy that does not run is of no use.
    const stays = here === 'running' ? this.#at : this.#other();
    if (here !== 'absent') await (stays === this.#at ? this.#other() : this.#at).virsh('destroy', this.name);
    this.#at = stays;
    return this.#shown(stays);
  }

  /** Waits until libvirtd can tell: it may be being started again. */
  async #shown(where: Libvirt): Promise<State> {
    return eventually(
      'libvirtd tells the state',
      async () => {
        const { code, stdout, stderr } = await where.virshWithin(PROBE_S, 'domstate', this.name);
        if (code !== 0) return /failed to get domain|Domain not found/i.test(stderr) && 'absent';
        const state = stdout.trim();
        return state === 'running' || state === 'paused' ? state : 'absent';
      },
      2 * PATIENCE_S * 1000,
    );
  }

  async #lookAtDisks(): Promise<void> {
    const { stdout } = await this.#at.virsh('domblklist', this.name);
    const sources = new Map(stdout.split('\n').map((line) => line.trim().split(/\s+/) as [string, string]));
    this.#isPlugged = sources.has(EXTRA);
    const medium = sources.get(DRIVE);
    this.#medium = medium === '-' ? undefined : medium;
  }

  #isAlive(): boolean {
    const pid = this.#at.pidOf(this.name);
    if (pid === undefined) return false;
    try {
      return !/^State:\s+Z/m.test(readFileSync(this.#host.machine.outside(`/proc/${pid}/status`), 'latin1'));
    } catch {
      return false;
    }
  }

  #isLost(): void {
    this.problems.push({ at: now(), kind: 'guest lost', detail: this.name });
    for (const file of this.heldFiles) this.#release(file, now());
    this.#state = 'absent';
  }

  #release(file: string, to: number): void {
    const from = this.#since.get(file);
    if (from !== undefined) this.held.push({ guest: this.name, file, from, to });
    this.#since.delete(file);
  }
}
