/**
 * The model of a lock daemon: lockspaces, resources, owners, connections. It is written from the description of lockspaces and
 * not from the daemon. It gets the bytes of clients and returns the expected answers.
 *
 * Once it cannot know an answer (for a path outside of its tree), it only expects well-formed replies.
 */
import { AdminModel, adminProgramOf, ADMIN_PROGRAM, type Success } from './model-admin.ts';
import { inquire, inquireProgram, type Knowledge } from './model-inquire.ts';
import { checkFlags, type Connection, LOCKSPACE, Refusal, RPC, type ServerState, Unknown } from './model-state.ts';
import {
  dispatchRefusal,
  errorReply,
  type Expected,
  type Head,
  isPing,
  type LockCall,
  parseHead,
  parseLockCall,
  pong,
  type ServedProgram,
  Stream,
} from './model-wire.ts';
import { type ServerName, serverNames } from './steps.ts';
import { type Entry, type Place, Tree } from './tree.ts';

/** A held resource. */
export interface Held {
  readonly lockspace: string;
  readonly name: string;
  readonly path: string;
  /** The flags of the first acquire. */
  readonly flags: number;
  /** The locked file, also when its path names another later. */
  readonly file: Entry;
  /** The pid of every hold. */
  readonly owners: number[];
  /** By pid, the time of its first hold: at its end its resources are released in that order. */
  readonly since: Map<number, number>;
}

/** The variable state of the daemon before the run. */
export interface Beginning {
  /** The libvirt version whose dialect it speaks, as major * 1000000 + minor * 1000 + micro. */
  readonly version: number;
  /** It has the inquire program. */
  readonly inquires: boolean;
  /** It notices the end of a connection before the next call. */
  readonly noticesAtOnce: boolean;
  readonly maxClients: Readonly<Record<ServerName, number>>;
  /** Ids of clients from before the run: lasting ones, and those whose end it may not have noticed yet. */
  readonly standing: Readonly<Record<ServerName, readonly number[]>>;
  readonly leaving: Readonly<Record<ServerName, readonly number[]>>;
}

const LOCK_PROGRAM: ServedProgram = { number: 0x0ea7beef, procedures: 8 };
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
  /** Further lockspaces, of earlier runs, without locks. */
  known: ReadonlySet<string> = new Set();
  readonly connections = new Map<number, Connection>();
  /** The model does not know the daemon's answers any more. */
  lost = false;
  private holds = 0;
  readonly admin: AdminModel;
  /** Connections that the daemon has closed, and whose end is still expected. */
  readonly ended: number[] = [];
  private readonly programs: Readonly<Record<ServerName, readonly ServedProgram[]>>;
  private readonly noticesAtOnce: boolean;

  constructor({ version, inquires, noticesAtOnce, maxClients, standing, leaving }: Beginning) {
    const [lock, admin] = serverNames.map((name): ServerState => ({
      name,
      maxClients: maxClients[name],
      maxAnonymousClients: maxClients[name],
      priorityWorkers: 0,
      clients: new Map(standing[name].map((id) => [id, null])),
      leaving: new Set(leaving[name]),
    })) as [ServerState, ServerState];
    this.admin = new AdminModel([lock, admin], version, !inquires);
    this.admin.identified = (id) => this.connections.get(id)?.identified ?? false;
    this.noticesAtOnce = noticesAtOnce;
    this.programs = {
      virtlockd: [LOCK_PROGRAM],
      admin: [adminProgramOf(version), ...(inquires ? [inquireProgram] : [])],
    };
  }

  server(name: ServerName): ServerState {
    return this.admin.servers[name === 'virtlockd' ? 0 : 1];
  }

  /** Whether the server has as many clients as it takes. */
  isFull(name: ServerName): boolean {
    const { clients, leaving, maxClients } = this.server(name);
    return clients.size + leaving.size >= maxClients;
  }

  /** A process connects; `client`: the client id in the daemon. */
  open(id: number, peer: number, server: ServerName, client: number): Connection {
    const state = this.server(server);
    state.clients.set(client, id);
    const connection: Connection = {
      server: state,
      client,
      peer,
      stream: new Stream(),
      owner: null,
      restricted: false,
      identified: false,
      subscription: null,
      reported: { acquired: 0, released: 0 },
    };
    this.connections.set(id, connection);
    return connection;
  }

  /** Bytes arrive; `descriptors`: with one attached to the first byte. Returns the expected answers in order. */
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
      if (this.connections.get(id) === connection) continue;
      answers.push({ kind: 'closed' });
      break;
    }
    return answers;
  }

  /** A connection ends, and with it its owner if the connection was the owner's own. */
  close(id: number): void {
    const connection = this.connections.get(id);
    if (connection === undefined) return;
    this.connections.delete(id);
    const { owner, peer, server, client } = connection;
    server.clients.delete(client);
    if (!this.noticesAtOnce) server.leaving.add(client);
    if (owner?.pid !== peer) return;
    const holdings = [...this.held()].filter(({ since }) => since.has(peer));
    holdings.sort((one, two) => (one.since.get(peer) ?? 0) - (two.since.get(peer) ?? 0));
    for (const resource of holdings) {
      for (let left = resource.owners.filter((pid) => pid === peer).length; left > 0; left--) this.drop(resource, peer);
    }
  }

  /** The present knowledge for the inquire program. */
  get knowledge(): Knowledge {
    return {
      sure: !this.lost,
      locks: () => this.held(),
      lockspaces: () => this.paths,
      servers: this.admin.servers,
    };
  }

  private lockspace(path: string): Map<string, Held> | undefined {
    const found = this.lockspaces.get(path);
    if (found !== undefined || !this.known.has(path)) return found;
    const created = new Map<string, Held>();
    this.lockspaces.set(path, created);
    return created;
  }

  /** Paths of all lockspaces. */
  get paths(): ReadonlySet<string> {
    return new Set([...this.known, ...this.lockspaces.keys()]);
  }

  *held(): Iterable<Held> {
    for (const resources of this.lockspaces.values()) yield* resources.values();
  }

  private serve(connection: Connection, message: Buffer): Expected | null {
    if (isPing(message)) return pong;
    const head = parseHead(message, this.programs[connection.server.name]);
    if (head === null) return null;
    const { header, carried, refused } = head;
    if (refused !== null) return dispatchRefusal(header, refused, carried);
    try {
      if (header.program === LOCK_PROGRAM.number) return this.serveLock(connection, head);
      return this.serveAdmin(connection, head);
    } catch (error) {
      if (error instanceof Refusal) {
        const { code, domain, message: detail, open } = error;
        return errorReply(header, { code, domain, detail, open });
      }
      if (error instanceof RangeError) return dispatchRefusal(header, 'Unable to decode message payload', carried);
      if (!(error instanceof Unknown)) throw error;
      this.lost = true;
      return { kind: 'any', header };
    }
  }

  private serveLock(connection: Connection, { header, words }: Head): Expected {
    const call = parseLockCall(header.procedure, words);
    connection.identified = true;
    if (this.lost) throw new Unknown();
    this.perform(connection, header.procedure, call);
    return { kind: 'reply', header, error: null };
  }

  private serveAdmin(connection: Connection, { header, words }: Head): Expected | null {
    const { procedure } = header;
    const success: Success =
      header.program === ADMIN_PROGRAM
        ? this.admin.perform(connection, procedure, words)
        : inquire(connection, procedure, words, this.knowledge);
    const { closes, ended, orError, loses, ...answer } = success;
    if (loses === true) this.lost = true;
    if (closes !== undefined) this.closeOwn(connection);
    else if (ended !== undefined) this.endClient(ended.server, ended.client);
    if (closes === 'at once') return null;
    return orError === true ? { kind: 'any', header, ...answer } : { kind: 'reply', header, error: null, ...answer };
  }

  /** The daemon closes a client's connection. */
  private endClient(server: ServerState, client: number): void {
    const run = server.clients.get(client) ?? null;
    server.clients.delete(client);
    if (run === null) return;
    this.ended.push(run);
    this.close(run);
    server.leaving.delete(client);
  }

  private closeOwn(connection: Connection): void {
    for (const [id, candidate] of this.connections) if (candidate === connection) this.close(id);
    connection.server.leaving.delete(connection.client);
  }

  private perform(connection: Connection, procedure: number, call: LockCall): void {
    const { path, name, flags } = call;
    if (procedure !== 8) checkFlags(flags, procedure === 6 ? SHARED | AUTOCREATE : 0, RPC);
    if (connection.restricted) throw new Refusal(29, RPC, 'lock manager connection has been restricted');
    const unregistered = new Refusal(55, RPC, 'lock owner details have not been registered');

    if (procedure === 1) {
      if (call.id === 0) throw unregistered;
      connection.owner = { pid: call.pid };
      return;
    }
    if (procedure === 8) {
      if (this.lockspace(path) === undefined) this.makeLockspace(path);
      return;
    }
    if (connection.owner === null) throw unregistered;
    const { pid } = connection.owner;
    if (procedure === 2) connection.restricted = true;
    else if (procedure === 3) this.newLockspace(path);
    else {
      const lockspace = this.lockspace(path);
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
    if (this.lockspace(path) !== undefined) throw new Refusal(1, RPC, `Lockspace for path ${path} already exists`);
    try {
      this.makeLockspace(path);
    } catch (error) {
      // NEW answers success, but the lockspace stays unknown.
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
    if (typeof place === 'string' || place.entry === null) {
      const status = this.tree.makeDirectories(path);
      if (status === 'outside') throw new Unknown();
      if (status !== null) throw new Refusal(38, LOCKSPACE, `Unable to create lockspace ${path}: `, true);
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
    if (this.isHeldAt(path)) throw busy(name);
    const what = `Unable to delete lockspace resource ${path}`;
    const place = this.tree.find(path, false);
    if (place === 'outside') throw new Unknown();
    if (place === 'ENOENT') return;
    if (typeof place === 'string') throw new Refusal(38, LOCKSPACE, `${what}: ${ERRNO_TEXT[place]}`);
    if (place.entry === null) return;
    if (place.entry.kind === 'directory' || place.slash) throw new Refusal(38, LOCKSPACE, `${what}: `, true);
    place.directory.entries.delete(place.name);
  }

  /** Whether a path, with links followed, names a file that is held, by this or another name. */
  private isHeldAt(path: string): boolean {
    const place = this.tree.find(path, true);
    // A path with a final slash names no file.
    if (typeof place === 'string' || place.entry === null || place.slash) return false;
    const { entry } = place;
    return [...this.held()].some(({ file }) => file === entry);
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
    // The model does not cover locks of a FIFO.
    if (file.kind === 'fifo') throw new Unknown();
    // Another name of a held file. The kernel would grant the lock, which the daemon has already, so the daemon must refuse.
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
    this.countChange('acquired');
  }

  private countChange(change: 'acquired' | 'released'): void {
    for (const { subscription } of this.connections.values()) if (subscription !== null) subscription[change]++;
  }

  /** The file at a path, or its free name when it may be created. */
  private lookUp(path: string, what: string, domain: number, create: boolean): Place {
    const place = this.tree.find(path, true);
    if (place === 'outside') throw new Unknown();
    // It is unknown which error open(2) checks first.
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
    this.countChange('released');
    if (!owners.includes(pid)) since.delete(pid);
    if (owners.length > 0) return;
    this.lockspaces.get(lockspace)?.delete(name);
    // A file that is still shared by another name stays locked, and so keeps its path.
    if ((flags & AUTOCREATE) === 0 || [...this.held()].some((other) => other.file === file)) return;
    const named = this.tree.find(path, true);
    // The path names another file by now.
    if (typeof named === 'string' || named.entry !== file) return;
    const place = this.tree.find(path, false);
    if (typeof place === 'string' || place.entry === null || place.entry.kind === 'directory' || place.slash) return;
    place.directory.entries.delete(place.name);
  }
}

function busy(name: string): Refusal {
  return new Refusal(87, LOCKSPACE, `Lockspace resource '${name}' is locked`);
}
