/**
 * What a lock daemon is to do, written from the description of lockspaces and not from the daemon: lockspaces,
 * resources, owners, connections. It takes what a client sends and says what must be answered.
 *
 * Where it cannot know (a path outside of its tree), it says so and from then on expects well-formed replies only.
 */
import { type Entry, type Place, Tree } from './tree.ts';
import { errorReply, type Expected, isPing, type ParsedCall, parseCall, pong, Stream } from './model-wire.ts';

/** A held resource. */
export interface Held {
  readonly lockspace: string;
  readonly name: string;
  readonly path: string;
  /** SHARED 1, AUTOCREATE 2; of the first acquire. */
  readonly flags: number;
  /** The file itself, whatever its path names later. */
  readonly file: Entry;
  /** Pids, one entry a hold. */
  readonly owners: number[];
  /** By pid, when it came to hold this: at its end its resources go in that order. */
  readonly since: Map<number, number>;
}

interface Registered {
  readonly pid: number;
}

interface Connection {
  readonly peer: number;
  readonly stream: Stream;
  owner: Registered | null;
  restricted: boolean;
}

/** A refusal: code, domain and the detail behind the code's prefix. */
class Refusal extends Error {
  readonly code: number;
  readonly domain: number;
  /** Only the beginning of the detail is known. */
  readonly open: boolean;

  constructor(code: number, domain: number, detail: string, open = false) {
    super(detail);
    this.code = code;
    this.domain = domain;
    this.open = open;
  }
}

/** The model's knowledge ended. */
class Unknown extends Error {}

const RPC = 7;
const LOCKSPACE = 51;
const SHARED = 1;
const AUTOCREATE = 2;

const ERRNO_TEXT = {
  ENOENT: 'No such file or directory',
  ENOTDIR: 'Not a directory',
  ENAMETOOLONG: 'File name too long',
  ELOOP: 'Too many levels of symbolic links',
  EISDIR: 'Is a directory',
} as const;

export class Model {
  tree = new Tree();
  /** Held resources by lockspace, then name. The default lockspace is the empty path. */
  readonly lockspaces = new Map<string, Map<string, Held>>([['', new Map()]]);
  readonly connections = new Map<number, Connection>();
  /** What the daemon does from now on cannot be told any more. */
  lost = false;
  private holds = 0;

  /** A connection made by a process. */
  open(id: number, peer: number): void {
    this.connections.set(id, { peer, stream: new Stream(), owner: null, restricted: false });
  }

  /** Bytes arrive; `descriptors`: one is attached to the first of them. Says what has to come back, in order. */
  receive(id: number, bytes: Buffer, descriptors: boolean): Expected[] {
    const connection = this.connections.get(id);
    if (connection === undefined) return [];
    const answers: Expected[] = [];
    for (const message of connection.stream.feed(bytes, descriptors)) {
      if (message === 'closed') {
        answers.push({ kind: 'closed' });
        this.close(id);
        break;
      }
      const answer = this.serve(connection, message);
      if (answer !== null) answers.push(answer);
    }
    return answers;
  }

  /** The connection is gone: its owner is, too, when it was the owner's own. */
  close(id: number): void {
    const connection = this.connections.get(id);
    if (connection === undefined) return;
    this.connections.delete(id);
    const { owner, peer } = connection;
    if (owner?.pid !== peer) return;
    const holdings = [...this.held()].filter(({ since }) => since.has(peer));
    holdings.sort((one, two) => (one.since.get(peer) ?? 0) - (two.since.get(peer) ?? 0));
    for (const resource of holdings) {
      for (let left = resource.owners.filter((pid) => pid === peer).length; left > 0; left--) this.drop(resource, peer);
    }
  }

  *held(): Iterable<Held> {
    for (const resources of this.lockspaces.values()) yield* resources.values();
  }

  private serve(connection: Connection, message: Buffer): Expected | null {
    if (isPing(message)) return pong;
    const call = parseCall(message);
    if (call.kind === 'dropped') return null;
    if (call.kind === 'refused') return errorReply(call.header, 39, RPC, call.detail, false);
    try {
      if (this.lost) throw new Unknown();
      this.perform(connection, call);
      return { kind: 'reply', header: call.header, error: null };
    } catch (error) {
      if (error instanceof Refusal) return errorReply(call.header, error.code, error.domain, error.message, error.open);
      if (!(error instanceof Unknown)) throw error;
      this.lost = true;
      return { kind: 'any', header: call.header };
    }
  }

  private perform(connection: Connection, call: ParsedCall): void {
    const { procedure, path, name, flags } = call;
    const bad = (flags & ~(procedure === 6 ? SHARED | AUTOCREATE : 0)) >>> 0;
    if (bad !== 0 && procedure !== 8)
      throw new Refusal(8, RPC, `unsupported flags (0x${bad.toString(16)}) in function `, true);
    if (connection.restricted) throw new Refusal(29, RPC, 'lock manager connection has been restricted');
    const unregistered = new Refusal(55, RPC, 'lock owner details have not been registered');

    if (procedure === 1) {
      if (call.id === 0) throw unregistered;
      connection.owner = { pid: call.pid };
      return;
    }
    if (procedure === 8) {
      if (!this.lockspaces.has(path)) this.makeLockspace(path);
      return;
    }
    if (connection.owner === null) throw unregistered;
    const { pid } = connection.owner;
    if (procedure === 2) connection.restricted = true;
    else if (procedure === 3) this.newLockspace(path);
    else {
      const lockspace = this.lockspaces.get(path);
      if (lockspace === undefined) throw new Refusal(1, RPC, `Lockspace for path ${path} does not exist`);
      const file = path === '' ? name : `${path}/${name}`;
      if (procedure === 4) this.create(lockspace, name, file);
      else if (procedure === 5) this.remove(lockspace, name, file);
      else if (procedure === 6) this.acquire(lockspace, path, name, file, flags, pid);
      else this.release(lockspace, name, pid);
    }
  }

  private newLockspace(path: string): void {
    if (path === '') throw new Refusal(55, RPC, 'the default lockspace already exists');
    if (this.lockspaces.has(path)) throw new Refusal(1, RPC, `Lockspace for path ${path} already exists`);
    try {
      this.makeLockspace(path);
    } catch (error) {
      // NEW answers success all the same, and the lockspace is not known afterwards.
      if (!(error instanceof Refusal)) throw error;
    }
  }

  private makeLockspace(path: string): void {
    const place = this.tree.find(path, true);
    if (place === 'outside') throw new Unknown();
    if (typeof place !== 'string' && place.entry !== null && place.entry.kind !== 'directory') {
      if (place.slash) throw new Refusal(38, LOCKSPACE, `Unable to create lockspace ${path}: `, true);
      throw new Refusal(1, LOCKSPACE, `Lockspace location ${path} exists, but is not a directory`);
    }
    if (place === 'ENOENT' || (typeof place !== 'string' && place.entry === null)) {
      const status = this.tree.makeDirectories(path);
      if (status === 'outside') throw new Unknown();
      if (status !== null) throw new Refusal(38, LOCKSPACE, `Unable to create lockspace ${path}: `, true);
    } else if (typeof place === 'string') {
      throw new Refusal(38, LOCKSPACE, `Unable to create lockspace ${path}: ${ERRNO_TEXT[place]}`);
    }
    this.lockspaces.set(path, new Map());
  }

  private create(lockspace: Map<string, Held>, name: string, path: string): void {
    if (lockspace.has(name)) throw busy(name);
    const found = this.lookUp(path, `cannot create file '${path}'`, 0, true);
    if (found.entry === null) found.directory.entries.set(found.name, { kind: 'file' });
    else if (found.entry.kind !== 'file') throw new Refusal(38, 0, `cannot create file '${path}': `, true);
  }

  private remove(lockspace: Map<string, Held>, name: string, path: string): void {
    if (lockspace.has(name)) throw busy(name);
    const what = `Unable to delete lockspace resource ${path}`;
    const place = this.tree.find(path, false);
    if (place === 'outside') throw new Unknown();
    if (place === 'ENOENT') return;
    if (typeof place === 'string') throw new Refusal(38, LOCKSPACE, `${what}: ${ERRNO_TEXT[place]}`);
    if (place.entry === null) return;
    if (place.entry.kind === 'directory' || place.slash) throw new Refusal(38, LOCKSPACE, `${what}: `, true);
    place.directory.entries.delete(place.name);
  }

  private acquire(
    lockspace: Map<string, Held>,
    directory: string,
    name: string,
    path: string,
    flags: number,
    pid: number,
  ): void {
    const shared = (flags & SHARED) !== 0;
    const present = lockspace.get(name);
    if (present !== undefined) {
      if (!shared || (present.flags & SHARED) === 0) throw busy(name);
      this.hold(present, pid);
      return;
    }
    const create = (flags & AUTOCREATE) !== 0;
    const found = this.lookUp(path, `Unable to open${create ? '/create' : ''} resource ${path}`, LOCKSPACE, create);
    let file = found.entry;
    if (file === null) {
      file = { kind: 'file' };
      found.directory.entries.set(found.name, file);
    }
    // A FIFO can be opened for both and even locked; what then follows is not worth knowing.
    if (file.kind === 'fifo') throw new Unknown();
    // Another name of a file that is held: to the kernel the daemon has its lock already, so it is for the daemon to refuse.
    for (const other of this.held()) {
      if (other.file === file && (!shared || (other.flags & SHARED) === 0)) throw busy(name);
    }
    const resource = { lockspace: directory, name, path, flags, file, owners: [], since: new Map<number, number>() };
    lockspace.set(name, resource);
    this.hold(resource, pid);
  }

  private hold({ owners, since }: Held, pid: number): void {
    owners.push(pid);
    if (!since.has(pid)) since.set(pid, ++this.holds);
  }

  /** What is at the path: a file, or a free name when it may be created. */
  private lookUp(path: string, what: string, domain: number, create: boolean): Place {
    const place = this.tree.find(path, true);
    if (place === 'outside') throw new Unknown();
    // Which of its reasons open(2) names first is its own affair.
    if (create && path.endsWith('/')) throw new Refusal(38, domain, `${what}: `, true);
    if (typeof place === 'string') throw new Refusal(38, domain, `${what}: ${ERRNO_TEXT[place]}`);
    if (place.entry?.kind === 'directory') throw new Refusal(38, domain, `${what}: ${ERRNO_TEXT.EISDIR}`);
    if (place.slash) throw new Refusal(38, domain, `${what}: `, true);
    if (place.entry === null && !create) throw new Refusal(38, domain, `${what}: ${ERRNO_TEXT.ENOENT}`);
    return place;
  }

  private release(lockspace: Map<string, Held>, name: string, pid: number): void {
    const resource = lockspace.get(name);
    if (resource === undefined) throw new Refusal(87, LOCKSPACE, `Lockspace resource '${name}' is not locked`);
    if (!resource.owners.includes(pid))
      throw new Refusal(1, LOCKSPACE, `owner ${pid | 0} does not hold the resource lock`);
    this.drop(resource, pid);
  }

  private drop(resource: Held, pid: number): void {
    const { owners, since, lockspace, name, flags, path, file } = resource;
    owners.splice(owners.indexOf(pid), 1);
    if (!owners.includes(pid)) since.delete(pid);
    if (owners.length > 0) return;
    this.lockspaces.get(lockspace)?.delete(name);
    // A file that is still held, shared, by another name keeps its lock and so its path.
    if ((flags & AUTOCREATE) === 0 || [...this.held()].some((other) => other.file === file)) return;
    const place = this.tree.find(path, false);
    if (typeof place === 'string' || place.entry === null || place.entry.kind === 'directory' || place.slash) return;
    place.directory.entries.delete(place.name);
  }
}

function busy(name: string): Refusal {
  return new Refusal(87, LOCKSPACE, `Lockspace resource '${name}' is locked`);
}
