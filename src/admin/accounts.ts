/** Names of users and groups by their numbers, as getpwuid and getgrgid find them. */
import { readFileSync } from 'node:fs';
import type { ByteString } from '../../xdr/codec.ts';
import { isHeld } from '../lockspace/files.ts';

/** How long `getent` may take, in milliseconds: directory services that hang must not hang the daemon for long. */
const GETENT_TIMEOUT = 1000;

/** A database: its file, its name for getent, and the answers of getent so far. */
interface Database {
  readonly file: string;
  readonly name: 'passwd' | 'group';
  readonly asked: Map<number, ByteString | null>;
}

const users: Database = { file: '/etc/passwd', name: 'passwd', asked: new Map() };
const groups: Database = { file: '/etc/group', name: 'group', asked: new Map() };

/** The user's name; without one, the number as text. */
export function userName(uid: number): ByteString {
  return lookUp(users, uid) ?? String(uid);
}

/** The group's name; without one, the number as text. */
export function groupName(gid: number): ByteString {
  return lookUp(groups, gid) ?? String(gid);
}

/** Reads the file each time, as it may change; runs getent, which may use the network, once for each number. */
function lookUp(database: Database, id: number): ByteString | null {
  const { file, name, asked } = database;
  const found = findEntry(read(file), id) ?? asked.get(id);
  if (found !== undefined) return found;
  const answer = findEntry(askGetent(name, id), id) ?? null;
  asked.set(id, answer);
  return answer;
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

function askGetent(database: string, id: number): ByteString {
  try {
    return process.getBuiltinModule('node:child_process').execFileSync('getent', [database, String(id)], {
      encoding: 'latin1',
      timeout: GETENT_TIMEOUT,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return ''; // not installed, no such entry, or too slow
  }
}
