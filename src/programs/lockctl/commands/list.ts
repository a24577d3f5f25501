/** `list`: the locks that are held. */
import { type Command, InvalidArgumentError } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { type LockFilter, type LockInfo, type StorageInfo } from '../../../../xdr/programs/inquire.ts';
import { placeOfNode, Routes } from '../../../proc/route.ts';
import { type Context, toBytes } from '../context.ts';
import { ETCD_HEADINGS, etcdLockJson, etcdRows } from '../etcd-locks.ts';
import { CommandError, Exit } from '../exit.ts';
import type { InquireClient } from '../inquire-client.ts';
import { notEmpty } from '../not-empty.ts';
import { age, fileState, isSound, json, lockJson, mode, name, print, Printer, style, table } from '../output.ts';
import { wholeNumber } from '../whole-number.ts';
import { NO_ETCD } from './hosts.ts';
import { locksOf, namesOf } from './who.ts';

interface Options {
  readonly json?: true;
  readonly allHosts?: true;
  readonly lockspace?: string;
  readonly resource?: string;
  readonly path?: string;
  readonly pid?: number;
  readonly uuid?: string;
  readonly vm?: string;
}

export function addList(program: Command, context: Context): void {
  program
    .command('list')
    .description('list the locks that are held')
    .option('--json', 'print a JSON array with an object for each lock')
    .option('--all-hosts', 'list the locks of all hosts in etcd instead')
    .option(
      '--lockspace <directory>',
      'only locks of this lockspace; empty for the default one, in which names are paths',
    )
    .option('--resource <name>', 'only the resource with exactly this name')
    .option('--path <file>', 'only locks of this file, under any name', notEmpty('--path'))
    .option('--pid <pid>', 'only locks of the owner with this pid', wholeNumber(0, 0xffffffff))
    .option('--uuid <uuid>', 'only locks of the owner with this UUID', uuid)
    .option('--vm <name>', 'only locks of the owner with this name')
    .action(async (options: Options) => {
      const filter = filterOf(options);
      const isFiltered = Object.values(filter).some((wanted) => wanted !== null);
      const daemon = context.daemon();
      if (options.allHosts === true) {
        if (isFiltered) throw new CommandError(Exit.USAGE, '--all-hosts takes no filter');
        await printAllHosts(daemon, options.json === true);
        return;
      }
      const pages = pagesOf(daemon, filter);
      if (options.json === true) await printJson(pages, hangingSince(await daemon.storages()));
      else await printTable(pages, isFiltered ? 'No lock matches.' : 'No lock is held.');
    });
}

async function printAllHosts(daemon: InquireClient, asJson: boolean): Promise<void> {
  if ((await daemon.etcd()) === null) throw new CommandError(Exit.NO, NO_ETCD);
  const locks = await daemon.etcdLocks();
  if (asJson) print(json(locks.map(etcdLockJson), 2));
  else if (locks.length === 0) print(style('dim', 'No host holds a lock in etcd.'));
  else print(table(ETCD_HEADINGS, locks.flatMap(etcdRows)));
}

function uuid(text: string): string {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text;
  throw new InvalidArgumentError('It must be a UUID.');
}

function filterOf({ lockspace, resource, path, pid, uuid, vm }: Options): Partial<LockFilter> {
  return {
    lockspace: lockspace === undefined ? null : toBytes(lockspace),
    resource: resource === undefined ? null : toBytes(resource),
    path: path === undefined ? null : toBytes(path),
    pid: pid ?? null,
    uuid: uuid ?? null,
    owner: vm === undefined ? null : toBytes(vm),
  };
}

/** As with `who`, the path may be relative, and may be a link. */
async function* pagesOf(daemon: InquireClient, filter: Partial<LockFilter>): AsyncGenerator<LockInfo[]> {
  const { path = null } = filter;
  if (path === null) {
    yield* daemon.lockPages(filter, true);
    return;
  }
  const locks = await locksOf(daemon, await namesOf(path), filter);
  if (locks.length > 0) yield locks;
}

/** Since when the storage of a lock has not answered, in milliseconds since 1970; 0 when it does. */
function hangingSince(storages: readonly StorageInfo[]): (lock: LockInfo) => number {
  const since = new Map<ByteString, number>();
  for (const { name: place, hangsSince } of storages) if (hangsSince > 0) since.set(place, hangsSince);
  if (since.size === 0) return () => 0;
  const routes = new Routes();
  return (lock) => {
    const place = routes.placeOf(lock.path) ?? (lock.descriptor < 0 ? placeOfNode(lock) : null);
    return place === null ? 0 : (since.get(place.name) ?? 0);
  };
}

/** Prints each page as it arrives, because a host may have very many locks. */
async function printJson(pages: AsyncIterable<LockInfo[]>, hangs: (lock: LockInfo) => number): Promise<void> {
  const printer = new Printer();
  let before = '[\n';
  for await (const page of pages) {
    // One array is several times faster than object by object. Its brackets go, and each object gets a line.
    const objects = json(page.map((lock) => lockJson(lock, hangs(lock))))
      .slice(1, -1)
      .replaceAll('},{"lockspace"', '},\n{"lockspace"');
    printer.print(before + objects);
    before = ',\n';
  }
  printer.print(before === '[\n' ? '[]\n' : '\n]\n');
  await printer.done();
}

const HEADINGS = ['VM', 'PID', 'MODE', 'SINCE', 'CLIENT', 'FILE', 'LOCKSPACE', 'RESOURCE'];

/** @param nothing printed when there is no row */
async function printTable(pages: AsyncIterable<LockInfo[]>, nothing: string): Promise<void> {
  const rows: string[][] = [];
  for await (const page of pages) for (const lock of page) rows.push(...rowsOf(lock));
  if (rows.length === 0) print(style('dim', nothing));
  else print(table(HEADINGS, rows));
}

/** A row for each hold. */
function rowsOf(lock: LockInfo): string[][] {
  const file = fileState(lock.file);
  return lock.holds.map(({ owner, since, client }) => [
    owner.name === '' ? '-' : name(owner.name),
    String(owner.pid),
    mode(lock),
    since === 0 ? '-' : age(since),
    client === 0 ? '-' : String(client),
    isSound(lock.file) ? file : style('yellow', file),
    lock.lockspace === '' ? '-' : name(lock.lockspace),
    name(lock.name),
  ]);
}
