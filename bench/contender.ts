/** The measured programs: C daemons, the floor server and this daemon, each in a lab of its own. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type Running, eventually } from '../src/lab/process.ts';
import type { Lab } from '../src/lab/root.ts';
import { checkout, openLab } from '../src/lab/trees.ts';
import { missingDaemon } from '../src/lab/requirements.ts';
import { Peer } from '../src/lab/wire.ts';
import { PROGRAM } from '../src/libvirt/paths.ts';
import { Load, type Placement, descriptorLimit, toolPath } from './tools.ts';

export const kinds = ['9.0.0', '12.8.0', 'floor', 'ours'] as const;
export type Kind = (typeof kinds)[number];

export const kindTitles: Readonly<Record<Kind, string>> = {
  '9.0.0': 'C 9.0.0',
  '12.8.0': 'C 12.8.0',
  floor: 'floor',
  ours: 'this daemon',
};

/** Why that contender cannot run here, or undefined. */
export function missing(kind: Kind): string | undefined {
  return missingDaemon(kind === 'floor' ? '9.0.0' : kind);
}

const configuration = 'max_clients = 20000\nmax_anonymous_clients = 20000\n';

/** Where lock files are created: in the directory for temporary files, or in memory. */
export type Files = 'disk' | 'memory';

export class Contender {
  readonly kind: Kind;
  readonly lab: Lab;
  readonly directory: string;
  readonly #process: Running;
  readonly #loads: Load[] = [];

  private constructor(kind: Kind, lab: Lab, directory: string, process: Running) {
    this.kind = kind;
    this.lab = lab;
    this.directory = directory;
    this.#process = process;
  }

  /** Starts the program, and waits until it accepts connections. */
  static async start(kind: Kind, files: Files): Promise<Contender> {
    const lab = await openLab(kind === '12.8.0' ? kind : '9.0.0');
    const directory = mkdtempSync(files === 'memory' ? '/dev/shm/virtlockd-bench-' : join(lab.directory, 'locks-'));
    const limit = `--nofile=${descriptorLimit()}`;
    const output = join(lab.directory, 'virtlockd.log');
    lab.write('/etc/libvirt/virtlockd.conf', configuration);
    mkdirSync(lab.outside('/run/libvirt'), { recursive: true });
    if (kind === 'ours') {
      rmSync(lab.outside(PROGRAM), { force: true });
      symlinkSync(join(checkout, 'bin/virtlockd'), lab.outside(PROGRAM));
    }
    const command = kind === 'floor' ? [toolPath('floor'), '/run/libvirt/virtlockd-sock'] : [PROGRAM];
    const running = lab.spawn('/usr/bin/prlimit', [limit, ...command], { output });
    const contender = new Contender(kind, lab, directory, running);
    try {
      await eventually(`${kindTitles[kind]} accepts`, async () => {
        if (running.finished !== undefined) return true;
        (await Peer.connect(contender.socket)).close();
        return true;
      });
      contender.checkAlive();
    } catch (error) {
      await contender.stop();
      throw error;
    }
    return contender;
  }

  get socket(): string {
    return this.lab.outside('/run/libvirt/virtlockd-sock');
  }

  get pid(): number {
    return this.#process.pid;
  }

  get alive(): boolean {
    return this.#process.finished === undefined;
  }

  /** @throws Error with the end of its log when it has ended. */
  checkAlive(): void {
    if (!this.alive) throw new Error(`${kindTitles[this.kind]} has ended:\n${this.#process.output.slice(-2000)}`);
  }

  /** Starts a load generator, which {@link stop} ends. */
  load(placement: Placement): Load {
    const load = new Load(this, placement);
    this.#loads.push(load);
    return load;
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#loads.map(async (load) => load.stop()));
    await this.#process.stop('SIGKILL');
    await this.lab.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
