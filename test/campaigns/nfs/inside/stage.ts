/** What the scenes of one version of NFS play on. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from '../../../../src/lab/daemon.ts';
import type { Version } from '../plan.ts';
import { command, type Host } from './host.ts';
import { type Lock, Owner } from './owner.ts';
import { Rival } from './rival.ts';
import type { Report } from './report.ts';

/** The server's lease, and its grace period, in ms: init.sh sets them. */
export const LEASE_MS = 12_000;

const EXPORT = '/srv/export';

export class Stage {
  readonly hosts: readonly [Host, Host];
  readonly version: Version;
  readonly report: Report;
  /** Of one scene, below the export and below each mount. */
  readonly #directory: string;
  readonly #ends: (() => Promise<unknown>)[] = [];

  constructor(hosts: readonly [Host, Host], version: Version, scene: string, report: Report) {
    this.hosts = hosts;
    this.version = version;
    this.report = report;
    this.#directory = scene;
    mkdirSync(join(EXPORT, scene, 'locks'), { recursive: true });
  }

  /** The scene's directory as the hosts have it; `again`: by their second mounts. */
  at(name: string, again = false): string {
    return join(`/srv/nfs${this.version}${again ? '-again' : ''}`, this.#directory, name);
  }

  /** Makes a disk image, of `name` repeated. Returns the lock on the image itself. */
  image(name: string): Lock {
    writeFileSync(join(EXPORT, this.#directory, name), name.repeat(512));
    return { lockspace: '', name: this.at(name) };
  }

  /** Reads that image where the server has it. */
  content(name: string): string {
    return readFileSync(join(EXPORT, this.#directory, name), 'latin1');
  }

  /** The lock of a disk of that name, in a lockspace on NFS. */
  indirect(name: string): Lock {
    return { lockspace: this.at('locks'), name: createHash('sha256').update(name).digest('hex') };
  }

  async daemon(number: 1 | 2, ...how: Parameters<Host['startDaemon']>): Promise<Daemon<Host>> {
    const daemon = await this.hosts[number === 1 ? 0 : 1].startDaemon(...how);
    this.atEnd(async () => daemon.stop());
    return daemon;
  }

  async owner(daemon: Pick<Daemon<Host>, 'lab' | 'connect'>, name: string): Promise<Owner> {
    const owner = await Owner.start(daemon, name);
    this.atEnd(async () => owner.end());
    return owner;
  }

  /** Runs `act` while a rival on host 2 asks for the files, and reports the spans in which one was free. */
  async besideRival(
    during: string,
    mode: 'take' | 'look',
    files: readonly string[],
    act: () => Promise<void>,
  ): Promise<void> {
    const rival = await Rival.start(this.hosts[1], mode, files);
    try {
      await act();
    } finally {
      const { free, asked } = await rival.end();
      for (const { file, ms } of free) this.report.free(`${during}, a rival that ${mode}s`, file, ms);
      this.report.check(`the rival asked during ${during}`, asked > 10, `${asked} times`);
    }
  }

  atEnd(end: () => Promise<unknown>): void {
    this.#ends.unshift(end);
  }

  /** Ends whatever the scene has started, the last one first. */
  async end(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end();
  }

  async stopServer(): Promise<void> {
    await command('rpc.nfsd', '0');
  }

  /** Its clients reclaim their locks now: those of NFSv4 by themselves, those of NFSv3 once they are notified. */
  async startServer(): Promise<void> {
    await command('rpc.nfsd', '8');
    if (this.version === '3') await command('sm-notify', '-f');
  }
}
