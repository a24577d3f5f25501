/** Names of users and groups by their numbers, as getpwuid and getgrgid find them. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import { isHeld } from '../lockspace/files.ts';
import { runChild, SpawnError } from '../posix/child.ts';
import { Waiters, Waiting } from '../rpc/waiting.ts';

/** How long `getent` may take, in milliseconds. Only the call that asks for a name waits for it. */
const GETENT_LIMIT_MS = 1000;
/** For how long an account counts as one without a name, if getent did not answer in time. */
const ASK_AGAIN_MS = 60_000;

/** A database: its file, its name for getent, the answers of getent so far, and the calls that wait for one. */
interface Database {
  readonly file: string;
  readonly name: 'passwd' | 'group';
  readonly asked: Map<number, ByteString | null>;
  readonly waiters: Map<number, Waiters>;
}

const users: Database = { file: '/etc/passwd', name: 'passwd', asked: new Map(), waiters: new Map() };
const groups: Database = { file: '/etc/group', name: 'group', asked: new Map(), waiters: new Map() };

/** The user's name; without one, the number as text. @throws Waiting */
export function userName(uid: number): ByteString {
  return lookUp(users, uid) ?? String(uid);
}

/** The group's name; without one, the number as text. @throws Waiting */
export function groupName(gid: number): ByteString {
  return lookUp(groups, gid) ?? String(gid);
}

/** Reads the file each time, as it may change; runs getent, which may use the network, once for each number. @throws Waiting */
function lookUp(database: Database, id: number): ByteString | null {
  const { file, asked, waiters } = database;
  const found = findEntry(read(file), id) ?? asked.get(id);
  if (found !== undefined) return found;
  throw new Waiting((done) => {
    const waiting = waiters.get(id) ?? new Waiters();
    if (!waiters.has(id)) {
      waiters.set(id, waiting);
      void ask(database, id);
    }
    return waiting.wait(done);
  });
}

/** Asks getent, and has the waiting calls made again. */
async function ask({ name, asked, waiters }: Database, id: number): Promise<void> {
  const answer = await askGetent(name, id);
  asked.set(id, answer ?? null);
  if (answer === undefined) setTimeout(() => asked.delete(id), ASK_AGAIN_MS).unref();
  const waiting = waiters.get(id);
  waiters.delete(id);
  waiting?.wake();
}

/** The name in the first line (`name:password:number:…`) that has the number. */
export function findEntry(lines: ByteString, id: number): ByteString | undefined {
  for (const line of lines.split('\n')) {
    const [name, , number] = line.split(':');
    if (name !== undefined && name !== '' && /^\d+$/.test(number ?? '') && Number(number) === id) return name;
  }
  return undefined;
}

function read(file: string): ByteString {
  // Its close would drop the lock of a held resource. getent, another process, may read it.
  if (isHeld(file)) return '';
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

/** Null: there is no name. Undefined: getent did not answer. */
async function askGetent(database: string, id: number): Promise<ByteString | null | undefined> {
  try {
    const program = { file: 'getent', args: [database, String(id)], directory: '/', limit: GETENT_LIMIT_MS };
    const { status, output } = await runChild(program);
    return status === null ? undefined : (findEntry(output, id) ?? null);
  } catch (error) {
    if (error instanceof SpawnError) return null; // not installed
    throw error;
  }
}
