/** The target that is a real daemon, this project's or C, in a lab of its own. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type LockDaemon, programOf, startDaemon } from '../../lab/start.ts';
import type { DaemonKind } from '../../lab/generation.ts';
import { openLab } from '../../lab/trees.ts';
import { parseVersion } from '../../libvirt/dialect.ts';
import { openDescriptors } from '../../proc/descriptors.ts';
import { imageOf, residentMemoryOf, statOf } from '../../proc/processes.ts';
import { SocketLink } from './link.ts';
import type { Beginning, Model } from './model.ts';
import { lockOfText, parsePage } from './model-inquire.ts';
import { Words } from './model-wire.ts';
import { type Call, type Json, type ServerName, serverNames } from './steps.ts';
import type { Link, Target } from './target.ts';
import { wipe } from './world.ts';

const MAX_RESTART_MS = 15_000;
const MAX_CLIENTS = 2000;
/** A run's client ids begin here, also after a start that used up more of them. */
const FIRST_ID = 64;
const MAX_STRING = 4_194_304;
/** No process has it. */
const STANDING_PID = 5_000_009;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Makes a directory, in memory where possible: a run makes and removes many files. */
export function memoryDirectory(): string {
  for (const parent of ['/dev/shm', tmpdir()]) {
    try {
      return mkdtempSync(join(parent, 'virtlockd-fuzz-'));
    } catch {
      continue;
    }
  }
  throw new Error('no directory for temporary files');
}

/** An installation of this project's daemon outside the checkout. */
export interface Installation {
  readonly program: string;
  /** The directory that it needs at its own path. */
  readonly directory: string;
}

export class BlackBox implements Target {
  readonly name: string;
  readonly peer = process.pid;
  readonly patience = 3000;
  isSpoilt = false;
  private readonly kind: DaemonKind;
  private readonly speaking: string;
  private readonly installation: Installation | undefined;
  private daemon: LockDaemon | undefined;
  private work: string | undefined;
  private lockspaces = new Set<string>();
  /** A lasting connection to each server, which undoes the changes of a run and pings. */
  private standing: { readonly virtlockd: SocketLink; readonly admin: SocketLink } | undefined;
  private readonly nextId = { virtlockd: 0, admin: 0 };
  /** Client ids of this run, and of the run before. */
  private lately = noIds();
  private before = noIds();
  private outputs = '';

  /**
   * @param speaking the version whose dialect this project's daemon speaks
   * @param installation default: the checkout
   */
  constructor(kind: DaemonKind, speaking = '12.8.0', installation?: Installation) {
    this.kind = kind;
    this.installation = installation;
    this.speaking = kind === 'ours' ? speaking : kind;
    this.name = kind;
  }

  private get running(): LockDaemon {
    if (this.daemon === undefined) throw new Error('not started');
    return this.daemon;
  }

  get base(): string {
    return this.work ?? '';
  }

  get beginning(): Beginning {
    const { standing, before } = this;
    const stands = (name: ServerName): number[] => (standing === undefined ? [] : [standing[name].client]);
    return {
      version: parseVersion(this.speaking) ?? 0,
      inquires: this.kind === 'ours',
      noticesAtOnce: false,
      maxClients: { virtlockd: MAX_CLIENTS, admin: MAX_CLIENTS },
      standing: { virtlockd: stands('virtlockd'), admin: stands('admin') },
      leaving: before,
    };
  }

  get pid(): number {
    return this.running.pid;
  }

  get known(): ReadonlySet<string> {
    return this.lockspaces;
  }

  async reset(): Promise<void> {
    await this.stop();
    const work = memoryDirectory();
    this.work = work;
    // The files of a run are in its working directory.
    const script = 'cd "$1" && exec "$2"';
    const lab = await openLab(this.kind, [
      work,
      ...(this.installation === undefined ? [] : [this.installation.directory]),
    ]);
    const dialect = this.kind === 'ours' ? `libvirt_version = "${this.speaking}"\n` : '';
    const configuration = `max_clients = ${MAX_CLIENTS}\nadmin_max_clients = ${MAX_CLIENTS}\n${dialect}`;
    this.daemon = await startDaemon(this.kind, {
      lab,
      configuration,
      program: '/bin/sh',
      args: ['-c', script, 'sh', work, this.installation?.program ?? programOf(this.kind)],
    });
    mkdirSync(this.base, { recursive: true });
    this.lockspaces = new Set();
    this.lately = noIds();
    this.before = noIds();
    this.isSpoilt = false;
    // While it starts, C answers its first connections oddly.
    await pause(this.kind === 'ours' ? 0 : 200);
    this.stand();
  }

  /** Makes the lasting connections and finds out their ids. */
  private stand(): void {
    const { socket, adminSocket } = this.running;
    const admin = SocketLink.open(adminSocket, 0, this.patience);
    if (admin === null) throw new Error(`${this.kind} takes no admin client`);
    const newest = (name: ServerName): number => {
      const args = { server: { name }, needResults: 1, flags: 0 };
      const [reply] = admin.ask([{ program: 'admin', call: 'listClients', args }]);
      const words = new Words(reply ?? Buffer.alloc(0), 28);
      const ids = words.list(MAX_STRING, () => {
        words.text(MAX_STRING);
        const id = Number(words.wide());
        words.wide();
        words.word();
        return id;
      });
      return Math.max(...ids);
    };
    this.nextId.admin = newest('admin') + 1;
    const first = SocketLink.open(socket, 0, this.patience);
    first?.ping();
    this.nextId.virtlockd = newest('virtlockd') + 1;
    first?.close();
    for (const name of serverNames) while (this.nextId[name] < FIRST_ID) this.connect(name)?.close();
    const virtlockd = this.connect('virtlockd');
    const standing = this.connect('admin');
    admin.close();
    if (virtlockd === null || standing === null) throw new Error(`${this.kind} takes no client`);
    virtlockd.ask([register(STANDING_PID)]);
    const [reply] = standing.ask([{ program: 'admin', call: 'getLogOutputs', args: { flags: 0 } }]);
    this.outputs = new Words(reply ?? Buffer.alloc(0), 28).text(MAX_STRING);
    this.standing = { virtlockd, admin: standing };
    this.before = noIds();
    this.lately = noIds();
  }

  private connect(name: ServerName): SocketLink | null {
    const { socket, adminSocket } = this.running;
    const link = SocketLink.open(name === 'admin' ? adminSocket : socket, this.nextId[name], this.patience);
    if (link !== null) this.lately[name].push(this.nextId[name]++);
    return link;
  }

  async stop(): Promise<void> {
    const { daemon, work, standing } = this;
    this.daemon = undefined;
    this.work = undefined;
    this.standing = undefined;
    standing?.virtlockd.close();
    standing?.admin.close();
    if (daemon !== undefined) {
      await daemon.stop('SIGKILL');
      await daemon.lab.close();
    }
    if (work !== undefined) rmSync(work, { recursive: true, force: true });
  }

  open(server: ServerName): Link | null {
    return this.connect(server);
  }

  answers(byNewcomer: boolean): boolean {
    if (!byNewcomer) return this.standing?.virtlockd.ping() ?? false;
    const link = this.connect('virtlockd');
    const answered = link?.ping() ?? false;
    link?.close();
    return answered;
  }

  pause(ms: number): void {
    Atomics.wait(sleeper, 0, 0, ms);
  }

  flushEvents(): boolean {
    return false;
  }

  restart(): string | null {
    const before = imageOf(this.pid);
    try {
      process.kill(this.pid, 'SIGUSR1');
    } catch {
      return 'it is dead before SIGUSR1';
    }
    const until = performance.now() + MAX_RESTART_MS;
    while (performance.now() < until) {
      if (this.death() !== null) return 'it ended at SIGUSR1';
      const now = imageOf(this.pid);
      if (now !== before && now !== undefined) return null;
      this.pause(2);
    }
    return 'it did not execute its program again';
  }

  death(): string | null {
    try {
      return statOf(this.pid).state === 'Z' ? 'the daemon is dead' : null;
    } catch {
      return 'the daemon is gone';
    }
  }

  descriptors(): number {
    return openDescriptors(this.pid).length;
  }

  memory(): number {
    return residentMemoryOf(this.pid);
  }

  undo(model: Model): void {
    this.before = this.lately;
    this.lately = noIds();
    for (const path of model.lockspaces.keys()) this.lockspaces.add(path);
    wipe(this.base);
    const { standing } = this;
    if (standing === undefined) return;
    const asks = model.lost && this.beginning.inquires;
    if (asks) this.lockspaces = new Set(this.list('lockspaces'));
    const held = asks ? this.list('locks').map(lockOfText) : model.held();
    const releases: Call[] = [];
    for (const { lockspace: path, name, owners } of held) {
      for (const pid of owners) {
        releases.push(register(pid), { call: 'releaseResource', args: { path, name, flags: 0 } });
      }
    }
    if (releases.length > 0 && standing.virtlockd.ask(releases).length < releases.length) this.isSpoilt = true;
    if (!model.admin.touched) return;
    const undone = restorations(this.outputs);
    const replies = standing.admin.ask(undone);
    if (replies.length < undone.length || replies.some((reply) => reply.readUInt32BE(24) !== 0)) this.isSpoilt = true;
  }

  /** The daemon's own list. */
  private list(list: 'locks' | 'lockspaces'): string[] {
    const entries: string[] = [];
    let cursor = 0n;
    do {
      const args = { filter: {}, cursor: cursor.toString(), limit: 0, flags: 0 };
      const [reply] = this.standing?.admin.ask([{ program: 'inquire', call: list, args }]) ?? [];
      if (reply === undefined) return entries;
      const page = parsePage(list, new Words(reply, 28));
      entries.push(...page.entries);
      cursor = page.next;
    } while (cursor !== 0n);
    return entries;
  }
}

const noIds = (): Record<ServerName, number[]> => ({ virtlockd: [], admin: [] });

function register(pid: number): Call {
  return { call: 'register', args: { owner: { uuid: '00'.repeat(16), name: '', id: 1, pid }, flags: 0 } };
}

/** The calls that restore the settings which the admin program can change. */
function restorations(outputs: string): Call[] {
  const uint = (field: string, value: number): Json => ({ field, value: { type: 2, value } });
  const limits = [uint('nclients_max', MAX_CLIENTS), uint('nclients_unauth_max', MAX_CLIENTS)];
  const call = (name: string, args: Json): Call => ({ program: 'admin', call: name, args });
  return [
    ...serverNames.flatMap((name) => [
      call('setClientLimits', { server: { name }, params: limits, flags: 0 }),
      call('setThreadPool', { server: { name }, params: [uint('prioWorkers', 0)], flags: 0 }),
    ]),
    call('setTimeout', { seconds: 0, flags: 0 }),
    call('setLogFilters', { setting: null, flags: 0 }),
    call('setLogOutputs', { setting: outputs, flags: 0 }),
  ];
}
