/**
 * A daemon that is executed again and again, one call of it failing, and all that a restart must not harm: locks of every
 * kind and their owners, connections of every kind, and a daemon of "another host" that asks for each of the locks all the
 * while. A run is one SIGUSR1; what is wrong after it is told in words.
 */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { inquireCall } from '../../../src/programs/conformance/groups/inquire/inquirer.ts';
import { LockType, posix } from '../../../src/posix/posix.ts';
import { inquireProcedures } from '../../../xdr/programs/inquire.ts';
import { XdrReader } from '../../../xdr/codec.ts';
import { Daemon } from '../../../src/lab/daemon.ts';
import { type LockDaemon, programOf, startDaemon } from '../../../src/lab/start.ts';
import { eventually, programImage } from '../../../src/lab/process.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { autocreate, type Call, encode, lock, type Message, Peer, shared } from '../../../src/lab/wire.ts';
import { OwnerProcess } from './owner.ts';
import { buildTracer, type Injection, Tracer } from './tracer.ts';

/** Above every pid: the ends of such owners kill no process. */
const NOBODY = 4_200_000;
/** How long a restart, with its proof, may take: the proof alone has 10 s. */
const RESTART_MS = 15_000;
/** The longest wait for an answer or a state. The daemon accepts no client for 5 s after a lack of descriptors. */
const ANSWER_MS = 8000;
/**
 * So many descriptors an error may leave open: the runtime itself forgets one whose fstat fails. They are closed on exec, and
 * so by the next restart.
 */
const MAX_LEAK = 2;
/** An owner whose connection has ended is dead after 1.6 s, and given up after 3 s. */
const KILLED_MS = 6000;

/** As /proc/PID/fdinfo shows it, on every architecture that has it there. */
const O_CLOEXEC = 0o2000000;

export type Ending = 'restarted' | 'refused' | 'dead' | 'silent';

export interface Outcome {
  readonly ending: Ending;
  /** The daemon's log of the run. */
  readonly log: string;
  readonly fired: boolean;
  readonly calls: readonly string[];
  /** The faults, each in a line. */
  readonly problems: readonly string[];
}

/** A resource that is held all the while. */
interface Held {
  readonly lockspace: string;
  readonly name: string;
  readonly flags: number;
  /** Its owner is being ended; without it the owner lives. */
  readonly owner?: OwnerProcess;
}

export interface SceneOptions {
  /** At each restart an owner's connection has just ended, and it does not heed SIGTERM. */
  readonly ending: boolean;
  /** The daemon's program; default: this checkout's. */
  readonly program?: string;
}

async function within<T>(what: string, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer to ${what}`));
    }, ANSWER_MS);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The result of reading something of a process; empty when that is gone. */
function read<T>(look: () => T[]): T[] {
  try {
    return look();
  } catch {
    return [];
  }
}

/** The kind of object behind a descriptor. */
function kindOf(link: string): string {
  return link.startsWith('/') ? link.replace(/^.*\/\.root\/root/, '') : link.replace(/\d+/g, '#');
}

/** Lines of a log that are no messages of the daemon's, and such as tell of a defect rather than of a failure. */
function unreadable(log: string): string[] {
  const isMessage = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: \d+: (debug|info|warning|error) : [\x20-\x7e]+$/;
  // The loader's own words when it cannot load guard.so: the daemon starts without it.
  const isLoaders =
    /^ERROR: ld\.so: object '\/proc\/self\/fd\/\d+' from LD_PRELOAD cannot be preloaded \([ \w]+\): ignored\.$/;
  const lines = log.split('\n').filter((line) => line !== '' && !isLoaders.test(line));
  const wrong = lines.filter((line) => !isMessage.test(line) || /\\n {4}at |TypeError|ReferenceError/.test(line));
  return wrong.slice(0, 3).map((line) => `unreadable in the log: ${line.slice(0, 200)}`);
}

/** A connection that gets events between the replies. */
class Subscriber {
  events = 0;
  readonly #peer: Peer;
  #replied: ((reply: Message | undefined) => void) | undefined;

  constructor(peer: Peer) {
    this.#peer = peer;
    void this.#read();
  }

  async call(call: Call): Promise<Message> {
    const reply = new Promise<Message | undefined>((resolve) => (this.#replied = resolve));
    this.#peer.send(encode(call));
    const got = await reply;
    if (got === undefined) throw new Error('the connection was closed instead of a reply');
    return got;
  }

  async #read(): Promise<void> {
    for (;;) {
      const message = await this.#peer.receive();
      if (message?.type === 2) this.events++;
      else this.#replied?.(message);
      if (message === undefined) return;
    }
  }
}

/** Acquires resources that others hold, without pauses, and notes the answers. */
class Rival {
  readonly granted: string[] = [];
  readonly #name: string;
  readonly #peer: Peer;
  readonly #wanted: Held[];
  readonly #done: Promise<void>;
  #goesOn = true;
  rounds = 0;

  private constructor(name: string, peer: Peer, wanted: Held[]) {
    this.#name = name;
    this.#peer = peer;
    this.#wanted = wanted;
    this.#done = this.#ask().catch((error: unknown) => {
      this.granted.push(`the rival ${name}: ${(error as Error).message}`);
    });
  }

  static async start(name: string, daemon: LockDaemon, wanted: Held[], spaces: readonly string[]): Promise<Rival> {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: NOBODY + 10, name: `rival ${name}` }));
    for (const space of spaces) await peer.must(lock.createLockspace(space));
    return new Rival(name, peer, wanted);
  }

  async stop(): Promise<void> {
    this.#goesOn = false;
    this.#peer.close();
    await this.#done;
  }

  async #ask(): Promise<void> {
    while (this.#goesOn) {
      for (const { lockspace, name, flags, owner } of this.#wanted) {
        const error = await this.#peer.ask(lock.acquire(lockspace, name, flags & autocreate)).catch((lost: unknown) => {
          if (this.#goesOn) throw lost;
          return {};
        });
        if (error !== undefined) continue;
        if (owner?.isDead === true) await this.#peer.must(lock.release(lockspace, name));
        else this.granted.push(`${basename(name)} was granted to the rival ${this.#name}`);
      }
      this.rounds++;
      await pause(1);
    }
  }
}

export class Scene {
  readonly directory: string;
  readonly #lab: Lab;
  readonly #rivalLab: Lab;
  readonly #daemon: LockDaemon;
  readonly #tracer: Tracer;
  readonly #rivalDaemon: LockDaemon;
  readonly #ending: boolean;
  readonly #held: Held[] = [];
  #owners: readonly OwnerProcess[] = [];
  #rivals: readonly Rival[] = [];
  #connections: { name: string; ask: () => Promise<unknown> }[] = [];
  #half: Peer | undefined;
  /** Asked for how many restarts were refused, and nothing else. */
  #counting: Peer | undefined;
  /** Descriptors that were there before the daemon was. */
  #inherited: readonly string[] = [];

  private constructor(
    directory: string,
    labs: readonly [Lab, Lab],
    daemon: LockDaemon,
    tracer: Tracer,
    rival: LockDaemon,
    { ending }: SceneOptions,
  ) {
    this.directory = directory;
    [this.#lab, this.#rivalLab] = labs;
    this.#daemon = daemon;
    this.#tracer = tracer;
    this.#rivalDaemon = rival;
    this.#ending = ending;
  }

  static async open(options: SceneOptions): Promise<Scene> {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-injected-'));
    const program = options.program ?? programOf('ours');
    const root = dirname(dirname(program));
    const visible = [directory, ...(root === checkout ? [] : [root])];
    const labs = [await openLab('ours', visible), await openLab('ours', visible)] as const;
    const [lab, rivalLab] = labs;
    const rival = await startDaemon('ours', { lab: rivalLab });
    const built = buildTracer(lab.directory);
    const daemon = Daemon.launch(lab, [built, 'exec', program], {
      configuration: 'max_clients = 100\nlog_outputs = "2:stderr 3:file:/var/log/libvirt/lockd.log"\n',
      env: { NOTIFY_SOCKET: '/run/nobody-listens' },
    });
    const tracer = await Tracer.attach(built, daemon.pid, '/CHECKOUT/dist/start.cjs', {
      [`${lab.directory}/.root/root`]: '',
      [lab.directory]: '/LAB',
      [directory]: '/SHARED',
      [checkout]: '/CHECKOUT',
      [root]: '/CHECKOUT',
    });
    await daemon.accepts('the daemon');
    const scene = new Scene(directory, labs, daemon, tracer, rival, options);
    await scene.#fill();
    return scene;
  }

  /** Makes the owners, their holds, and the other clients. */
  async #fill(): Promise<void> {
    const [space, image, disk] = [`${this.directory}/leases`, `${this.directory}/image`, `${this.directory}/disk`];
    for (const path of [image, disk]) writeFileSync(path, '');
    const daemon = this.#daemon;
    const [itself, managed] = [await OwnerProcess.start(), await OwnerProcess.start()];
    this.#owners = [itself, managed];
    const hold = async (
      by: { must(call: Call): Promise<unknown> },
      lockspace: string,
      name: string,
      flags: number,
    ): Promise<void> => {
      await by.must(lock.acquire(lockspace, name, flags));
      this.#held.push({ lockspace, name, flags });
    };

    // One that is connected itself.
    await itself.connect(daemon.socket);
    await itself.must(lock.register({ pid: itself.pid, name: 'itself' }));
    await itself.must(lock.createLockspace(space));
    await hold(itself, '', image, 0);
    await hold(itself, '', `${this.directory}/lease`, autocreate);
    await hold(itself, space, 'one', autocreate);
    await hold(itself, space, 'many', autocreate | shared);
    // One whose locks another connection took for it.
    const manager = await daemon.connect();
    await manager.must(lock.register({ pid: managed.pid, name: 'managed' }));
    await hold(manager, '', disk, shared);
    await hold(manager, space, 'two', autocreate);
    await manager.must(lock.acquire(space, 'many', autocreate | shared));

    const silent = await daemon.connect();
    const admin = await daemon.connectAdmin();
    const subscriber = new Subscriber(await daemon.connectAdmin());
    await subscriber.call(inquireCall('subscribe', { flags: 0 }));
    this.#half = await daemon.connect();
    await this.#half.must(lock.register({ pid: NOBODY + 1, name: 'half' }));
    this.#counting = await daemon.connectAdmin();
    const refused = lock.acquire('', image);
    this.#connections = [
      { name: 'the owner itself', ask: async () => itself.ask(refused) },
      { name: 'the manager', ask: async () => manager.ask(refused) },
      { name: 'a client that has not registered', ask: async () => silent.ask(refused) },
      { name: 'an admin client', ask: async () => admin.call(inquireCall('status', { flags: 0 })) },
      { name: 'the subscriber', ask: async () => subscriber.call(inquireCall('status', { flags: 0 })) },
    ];
    this.#rivals = [
      await Rival.start('on another host', this.#rivalDaemon, this.#held, [space]),
      await Rival.start('on this host', daemon, this.#held, []),
    ];
    this.#inherited = ['0', '1', '2', ...this.#outliveExec()];
  }

  /** Sends SIGUSR1, with that call to fail, and then checks everything. */
  async run(injection?: Injection, show = false): Promise<Outcome> {
    const problems: string[] = [];
    const locks = this.#locks();
    const descriptors = this.#descriptors();
    const image = programImage(this.#daemon.pid);
    const [refused, logged] = [await this.#refusals(), this.#logSize()];
    const message = encode({ ...lock.acquire('', `${this.directory}/image`), serial: 77 });
    this.#half?.send(message.subarray(0, 40));
    const ended = this.#ending ? await this.#ownerWithLock() : undefined;
    await this.#tracer.arm(injection, show);
    await ended?.owner.close();
    process.kill(this.#daemon.pid, 'SIGUSR1');
    const ending = await this.#waitFor(image, refused);
    if (ending === 'silent') problems.push('neither restarted, refused nor ended');
    if (ending === 'dead') {
      const { code, signal } = await this.#daemon.exited;
      problems.push(`the daemon has ended: ${signal ?? `exit ${String(code)}`}`);
    } else {
      // One that says nothing need not be asked whether everybody else is served.
      if (ending !== 'silent') await this.#probe(problems, message.subarray(40));
      if (ended !== undefined) await this.#isEnded(ended.owner, problems);
      if (ending !== 'silent') await this.#look(problems, async () => this.#hasOnly(descriptors));
      ended?.forget();
      const now = this.#locks();
      for (const one of locks) if (!now.includes(one)) problems.push(`a lock is lost: ${one} no more`);
    }
    const seen = await this.#tracer.stop();
    for (const owner of this.#owners) {
      for (const number of owner.signals.splice(0)) problems.push(`an owner got signal ${number}`);
      if (owner.end !== undefined) problems.push(`an owner is gone: ${owner.end}`);
    }
    for (const rival of this.#rivals) {
      const granted = new Set(rival.granted.splice(0));
      // All that a dead daemon held is granted, of course.
      if (ending !== 'dead') problems.push(...granted);
    }
    await ended?.owner.stop();
    const log = this.#logSince(logged);
    problems.push(...unreadable(log));
    return { ending, log, fired: seen.fired, calls: seen.calls, problems };
  }

  async close(): Promise<void> {
    await Promise.all(this.#rivals.map(async (rival) => rival.stop()));
    // SIGKILL: at SIGTERM it would end its owners first.
    await Promise.all([this.#daemon.stop('SIGKILL'), this.#rivalDaemon.stop('SIGKILL')]);
    this.#tracer.close();
    await Promise.all(this.#owners.map(async (owner) => owner.stop()));
    await Promise.all([this.#lab.close(), this.#rivalLab.close()]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Asks for all that a sound daemon does, of whichever program it is. */
  async #probe(problems: string[], rest: Buffer): Promise<void> {
    await this.#look(problems, async () => this.#isSettled());
    this.#half?.send(rest);
    await Promise.all([
      this.#look(problems, async () => {
        const reply = await within('half a message', this.#half?.receive() ?? Promise.resolve(undefined));
        if (reply?.serial !== 77) throw new Error('half a message is not answered');
      }),
      ...this.#connections.map(async ({ name, ask }) =>
        this.#look(
          problems,
          async () => {
            await within(`a call of ${name}`, ask());
          },
          `${name}: `,
        ),
      ),
    ]);
    // Alone: so many calls to accept are on the way of a newcomer at every run.
    await this.#look(problems, async () => this.#takesNewcomers(), 'a newcomer: ');
  }

  async #look(problems: string[], probe: () => Promise<void>, prefix = ''): Promise<void> {
    try {
      await probe();
    } catch (error) {
      problems.push(`${prefix}${(error as Error).message}`);
    }
  }

  /** The outcome of SIGUSR1. */
  async #waitFor(image: string, refused: number): Promise<Ending> {
    const until = performance.now() + RESTART_MS;
    while (performance.now() < until) {
      if (this.#isGone()) return 'dead';
      const isNew = read(() => [programImage(this.#daemon.pid)]).some((now) => now !== image);
      if (isNew) return this.#restarted();
      if ((await this.#refusals()) > refused) return 'refused';
      await pause(5);
    }
    return 'silent';
  }

  /** Whether the new program answers, rather than ends. */
  async #restarted(): Promise<Ending> {
    const answers = eventually('the new program answers', async () => this.#answers(), ANSWER_MS);
    return Promise.race([
      answers.then(
        () => 'restarted' as const,
        () => 'silent' as const,
      ),
      this.#daemon.exited.then(() => 'dead' as const),
    ]);
  }

  async #answers(): Promise<true> {
    const peer = await within('connect', this.#daemon.connectAdmin());
    await within('STATUS', peer.call(inquireCall('status', { flags: 0 })));
    peer.close();
    return true;
  }

  /** How many restarts the daemon has refused; 0 when it does not say. */
  async #refusals(): Promise<number> {
    const answer =
      this.#counting?.call(inquireCall('counters', { flags: 0 })) ?? Promise.reject(new Error('no connection'));
    const payload = await within('COUNTERS', answer)
      .then((reply) => reply.payload)
      .catch(() => null);
    if (payload === null) return 0;
    const { counters } = inquireProcedures.counters.result.read(new XdrReader(payload));
    return counters.find(({ name }) => name === 'restartsRefused')?.value ?? 0;
  }

  #isGone(): boolean {
    return this.#daemon.finished !== undefined;
  }

  #logSize(): number {
    return statSync(join(this.#lab.directory, 'virtlockd.log')).size;
  }

  /** Without the lines of the rivals' calls. */
  #logSince(size: number): string {
    const text = readFileSync(join(this.#lab.directory, 'virtlockd.log')).subarray(size).toString('latin1');
    const lines = text
      .split('\n')
      .filter((line) => !/: Refused '|: resource busy: |has not been|have not been/.test(line));
    return lines.join('\n');
  }

  /** The answers of F_GETLK to this process, which holds none of the locks. */
  #locks(): string[] {
    return this.#held.map(({ lockspace, name }) => {
      const path = lockspace === '' ? name : `${lockspace}/${name}`;
      return `${path.slice(this.directory.length + 1)} ${this.#lockOn(path)}`;
    });
  }

  #lockOn(path: string): string {
    const [fd] = read(() => [openSync(path, 'r+')]);
    if (fd === undefined) return 'has no file';
    const found = new Int32Array(2);
    try {
      if (posix.getlk(fd, LockType.WRITE, 0, 1, found) < 0) return 'cannot be asked for';
    } finally {
      closeSync(fd);
    }
    const [type, pid] = found;
    if (type === LockType.UNLOCK) return 'is free';
    // A lock of an open file description names no process.
    const holder = pid === this.#daemon.pid || pid === -1 ? 'the daemon' : 'another process';
    return `is ${type === LockType.READ ? 'shared' : 'exclusive'} and held by ${holder}`;
  }

  /** The objects behind the daemon's descriptors, by number. */
  #descriptors(): Map<string, string> {
    const directory = `/proc/${this.#daemon.pid}/fd`;
    return new Map(readdirSync(directory).flatMap((fd) => read(() => [[fd, readlinkSync(`${directory}/${fd}`)]])));
  }

  /** Descriptors that are not closed on exec. */
  #outliveExec(): string[] {
    const directory = `/proc/${this.#daemon.pid}/fdinfo`;
    return readdirSync(directory).filter((fd) =>
      read(() => [readFileSync(`${directory}/${fd}`, 'latin1')]).some((text) => {
        const flags = /^flags:\s*(\d+)/m.exec(text)?.[1] ?? '';
        return (parseInt(flags, 8) & O_CLOEXEC) === 0;
      }),
    );
  }

  /** Waits for the deferred work of a restart: inherited descriptors are close-on-exec again. */
  async #isSettled(): Promise<void> {
    let open: string[] = [];
    const isClosed = (): boolean => {
      open = this.#outliveExec().filter((fd) => !this.#inherited.includes(fd));
      return open.length === 0;
    };
    await eventually('descriptors are closed on exec', isClosed, ANSWER_MS).catch(() => {
      const all = this.#descriptors();
      const names = new Set(open.map((fd) => kindOf(all.get(fd) ?? '?')));
      throw new Error(`not closed on exec: ${[...names].join(', ')}`);
    });
  }

  /** Hardly more descriptors than before, apart from such as newcomers have that were just closed. */
  async #hasOnly(before: ReadonlyMap<string, string>): Promise<void> {
    const isSame = (): boolean => this.#descriptors().size <= before.size + MAX_LEAK;
    await eventually('no more descriptors than before', isSame, 1000).catch(() => {
      const left = [...before.values()].map(kindOf);
      const more = [...this.#descriptors().values()].map(kindOf).filter((kind) => {
        const index = left.indexOf(kind);
        if (index >= 0) left.splice(index, 1);
        return index < 0;
      });
      throw new Error(`more descriptors than before: ${more.join(', ')}`);
    });
  }

  /** A newcomer may meet the error itself, and is served when it comes again. */
  async #takesNewcomers(): Promise<void> {
    const serve = async (): Promise<void> => {
      await this.#answers();
      const space = `${this.directory}/leases`;
      const peer = await within('connect', this.#daemon.connect());
      await within('REGISTER', peer.must(lock.register({ pid: NOBODY + 2, name: 'newcomer' })));
      await within('ACQUIRE', peer.must(lock.acquire(space, 'newcomer', autocreate)));
      await within('RELEASE', peer.must(lock.release(space, 'newcomer')));
      peer.close();
    };
    await serve().catch(serve);
  }

  /** An owner of its own with a lock that is asked for until `forget` is called. */
  async #ownerWithLock(): Promise<{ owner: OwnerProcess; forget: () => void }> {
    const owner = await OwnerProcess.start();
    const space = `${this.directory}/leases`;
    await owner.connect(this.#daemon.socket);
    await owner.must(lock.register({ pid: owner.pid, name: 'ending' }));
    await owner.must(lock.acquire(space, 'ending', autocreate));
    const held = { lockspace: space, name: 'ending', flags: autocreate, owner };
    this.#held.push(held);
    return {
      owner,
      forget: () => {
        this.#held.splice(this.#held.indexOf(held), 1);
      },
    };
  }

  async #isEnded(owner: OwnerProcess, problems: string[]): Promise<void> {
    await eventually('an owner whose connection has ended is killed', () => owner.end !== undefined, KILLED_MS).catch(
      (error: unknown) => problems.push((error as Error).message),
    );
    if (owner.end !== undefined && owner.end !== 'SIGKILL') problems.push(`the ended owner's end was ${owner.end}`);
    const [signal, ...more] = owner.signals;
    if (signal !== 15 || more.length > 0) problems.push(`the ended owner got signals ${owner.signals.join(', ')}`);
  }
}
