/** One guest. The campaign starts, suspends, resumes, saves, restores, plugs, stops and kills it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually } from '../../../src/lab/process.ts';
import type { Random } from '../../../src/programs/fuzz/random.ts';
import { type Held, now, type Operation, type Problem } from './facts.ts';
import type { Host } from './host.ts';

type State = 'absent' | 'running' | 'paused' | 'saved';

const operations = {
  absent: ['create'],
  running: ['suspend', 'save', 'destroy', 'kill', 'rest', 'rest', 'rest'],
  paused: ['resume', 'resume', 'resume', 'destroy', 'rest'],
  saved: ['restore'],
} as const satisfies Record<State, readonly string[]>;
type Name = (typeof operations)[State][number];

const AFTER = {
  create: 'running',
  restore: 'running',
  resume: 'running',
  suspend: 'paused',
  save: 'saved',
  destroy: 'absent',
  kill: 'absent',
} as const satisfies Partial<Record<Name, State>>;

/** How long one operation may take, in ms: seconds on a busy machine, and the watchdog's interval. */
const PATIENCE = 60_000;
const REST_MS = 500;

export class Guest {
  readonly name: string;
  readonly image: string;
  readonly held: Held[] = [];
  readonly operations: Operation[] = [];
  readonly problems: Problem[] = [];
  readonly #host: Host;
  readonly #random: Random;
  readonly #xml: string;
  readonly #file: string;
  #state: State = 'absent';
  /** Since when its lock must be held. */
  #since: number | undefined;
  #isStopped = false;
  #run: Promise<void> = Promise.resolve();

  constructor(host: Host, name: string, random: Random) {
    this.name = name;
    this.#host = host;
    this.#random = random;
    const { image, xml } = host.describe(name);
    this.image = image;
    this.#xml = xml;
    this.#file = join(host.machine.directory, `${name}.save`);
  }

  get isHeld(): boolean {
    return this.#since !== undefined;
  }

  start(): void {
    this.#run = this.#live();
  }

  /** Each operation once, before the first death: what libvirtd logs then is ordinary. */
  async rehearse(): Promise<void> {
    for (const name of ['create', 'suspend', 'resume', 'save', 'restore', 'destroy', 'create'] as const) {
      await this.#do(name);
    }
    await this.#host.restartLibvirtd();
    await this.#do('kill');
  }

  /** Stops the operations, and ends the guest. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#run;
    if (this.#state === 'running' || this.#state === 'paused') await this.#do('destroy');
  }

  async #live(): Promise<void> {
    while (!this.#isStopped) {
      const choices: readonly Name[] = operations[this.#state];
      const name = this.#random.pick(choices);
      if (name === undefined || name === 'rest') await this.#rest();
      else await this.#do(name);
    }
  }

  async #rest(): Promise<void> {
    await pause(this.#random.below(REST_MS));
    if (this.#state === 'running' && !this.#isAlive()) this.#isLost();
  }

  async #do(name: keyof typeof AFTER): Promise<void> {
    const from = now();
    this.#release(from);
    const error = await this.#execute(name);
    const to = now();
    this.operations.push({ guest: this.name, name, from, to, error });
    if (error === undefined) this.#state = AFTER[name];
    else await this.#look(name);
    if (this.#state === 'running') this.#since = to;
    if (error !== undefined) await pause(REST_MS);
  }

  /** Returns libvirt's error; undefined on success. */
  async #execute(name: keyof typeof AFTER): Promise<string | undefined> {
    if (name === 'kill') return this.#kill();
    const args = {
      create: ['create', this.#xml],
      restore: ['restore', this.#file],
      save: ['save', this.name, this.#file],
      resume: ['resume', this.name],
      suspend: ['suspend', this.name],
      destroy: ['destroy', this.name],
    }[name];
    const finished = this.#host.run('timeout', String(PATIENCE / 1000), 'virsh', '-q', '-c', 'qemu:///system', ...args);
    const { code, stderr } = await finished;
    if (code === 124) this.problems.push({ at: now(), kind: 'call hangs', detail: `virsh ${name} ${this.name}` });
    return code === 0 ? undefined : stderr.trim().replaceAll('\n', ' ');
  }

  async #kill(): Promise<string | undefined> {
    const pid = this.#pid();
    if (pid === undefined) return 'there is no pid file';
    await this.#host.run('kill', '-9', String(pid));
    try {
      await eventually('libvirt notices', async () => (await this.#shown()) === 'absent', PATIENCE);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  /** After a failed operation, the guest may be in the state before or after it, but in no other. */
  async #look(name: keyof typeof AFTER): Promise<void> {
    const before = this.#state;
    const seen = await this.#shown();
    const file = before === 'saved' || name === 'save' ? 'saved' : 'absent';
    // After a failed restore the saved file still exists. After a failed save there is none that can be used.
    this.#state = seen === 'absent' && name === 'restore' ? file : seen;
    if (seen === 'absent' && (name === 'suspend' || name === 'resume')) this.#isLost();
  }

  async #shown(): Promise<State> {
    const { code, stdout } = await this.#host.virsh('domstate', this.name);
    if (code !== 0) return 'absent';
    return ({ running: 'running', paused: 'paused' }[stdout.trim()] as State | undefined) ?? 'absent';
  }

  #pid(): number | undefined {
    try {
      return Number(readFileSync(this.#host.machine.outside(`/run/libvirt/qemu/${this.name}.pid`), 'latin1'));
    } catch {
      return undefined;
    }
  }

  #isAlive(): boolean {
    const pid = this.#pid();
    if (pid === undefined) return false;
    try {
      return !/^State:\s+Z/m.test(readFileSync(this.#host.machine.outside(`/proc/${pid}/status`), 'latin1'));
    } catch {
      return false;
    }
  }

  #isLost(): void {
    this.problems.push({ at: now(), kind: 'guest lost', detail: this.name });
    this.#release(now());
    this.#state = 'absent';
  }

  #release(to: number): void {
    if (this.#since !== undefined) this.held.push({ guest: this.name, file: this.image, from: this.#since, to });
    this.#since = undefined;
  }
}
