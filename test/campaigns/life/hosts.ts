/** Two hosts with the same storage, each with a lock daemon: the owner's own, and another. */
import { openSync, closeSync, readSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { type LockDaemon, reexecute, startDaemon, displace, C_PROGRAM } from '../../../src/lab/start.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { lock } from '../../../src/lab/wire.ts';
import { compilePrograms } from './children.ts';
import type { Host } from './plan.ts';
import { Storage } from './storage.ts';

/** The daemon to judge. */
export interface Subject {
  readonly program: string;
  /** The C daemon blocks instead of having callers wait, and is judged by its grants alone. */
  readonly isC: boolean;
}

/** @param program default: this checkout's */
export function subjectAt(program = join(checkout, 'bin/virtlockd')): Subject {
  const fd = openSync(program, 'r');
  try {
    const magic = Buffer.alloc(4);
    readSync(fd, magic, 0, 4, 0);
    return { program, isC: magic.toString('latin1') === '\x7fELF' };
  } finally {
    closeSync(fd);
  }
}

/** The directory of the checkout or package that a script is part of. */
function partsOf({ program, isC }: Subject): string[] {
  if (isC) return [];
  const root = realpathSync(join(dirname(realpathSync(program)), '..'));
  return [root, realpathSync(join(root, 'node_modules'))];
}

export class Hosts {
  readonly subject: Subject;
  readonly storage: Storage;
  readonly #labs: Readonly<Record<Host, Lab>>;
  readonly #daemons: Partial<Record<Host, LockDaemon>> = {};
  /** Daemons that were sent a signal to end. */
  readonly #ending = new WeakSet<LockDaemon>();
  readonly #canSwap: boolean;

  private constructor(subject: Subject, storage: Storage, own: Lab, other: Lab) {
    this.subject = subject;
    this.storage = storage;
    this.#labs = { own, other };
    this.#canSwap = !subject.isC && missingDaemon('9.0.0') === undefined;
    if (subject.isC) return;
    for (const lab of [own, other]) {
      if (this.#canSwap) displace(lab, subject.program);
      else lab.install(subject.program);
    }
  }

  static async open(subject: Subject): Promise<Hosts> {
    compilePrograms();
    const storage = await Storage.make();
    const labs: Lab[] = [];
    try {
      const share = [...partsOf(subject), ...storage.shares];
      const own = await openLab('ours', share);
      labs.push(own);
      const other = await openLab('ours', share);
      labs.push(other);
      const hosts = new Hosts(subject, storage, own, other);
      await hosts.start('own');
      await hosts.start('other');
      return hosts;
    } catch (error) {
      for (const lab of labs) await lab.close();
      await storage.remove();
      throw error;
    }
  }

  daemon(host: Host): LockDaemon {
    const daemon = this.#daemons[host];
    if (daemon === undefined) throw new Error(`no daemon on the ${host} host`);
    return daemon;
  }

  /** A fresh daemon on that host. */
  async start(host: Host): Promise<void> {
    const { program, isC } = this.subject;
    const daemon = await startDaemon(isC ? '9.0.0' : 'ours', {
      lab: this.#labs[host],
      program: isC ? program : PROGRAM,
    });
    this.#daemons[host] = daemon;
    const peer = await daemon.connect();
    await peer.must(lock.createLockspace(this.storage.lockspace));
    peer.close();
  }

  /** Whether it executed its program again: one that has ended does not. @throws Error when it should have, with the log */
  async restart(host: Host): Promise<boolean> {
    const daemon = this.daemon(host);
    if (daemon.finished !== undefined) return false;
    try {
      await reexecute(daemon);
      return true;
    } catch (error) {
      if (this.#ending.has(daemon)) return false;
      throw error;
    }
  }

  /** How often the C daemon took over from that daemon: not at all where there is none. */
  async swapToCAndBack(host: Host): Promise<number> {
    if (!this.#canSwap) return 0;
    for (const program of [C_PROGRAM, this.subject.program]) {
      this.#labs[host].install(program);
      await reexecute(this.daemon(host));
    }
    return 1;
  }

  /** Ends the daemon, as an operator does. */
  async end(host: Host): Promise<void> {
    const daemon = this.daemon(host);
    this.#ending.add(daemon);
    await daemon.stop();
  }

  /** Ends both daemons and all that they left. */
  async close(): Promise<void> {
    for (const daemon of Object.values(this.#daemons)) await daemon.stop();
    for (const lab of Object.values(this.#labs)) await lab.close();
    await this.storage.remove();
  }
}
