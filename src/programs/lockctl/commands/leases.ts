/**
 * `lease create|delete|list`: the lockspace (directory `<target path>/<lockspace>`) and the resource (file `<key>` in it) of a
 * <lease> element. libvirt creates neither, and a guest does not start without them.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { type HolderNote, Identity, type OwnerInfo } from '../../../../xdr/programs/inquire.ts';
import { lockProgram } from '../../../../xdr/programs/lock.ts';
import { type Context, toBytes, toPath } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { fileId, findObstacle, isHere, type Obstacle } from '../kernel/holders.ts';
import { notesIn } from '../kernel/holder-notes.ts';
import { json, name, nameJson, notedOwners, owner, ownerJson, print, style, table } from '../output.ts';
import { createLockspace, lockspacePath } from './lockspaces.ts';
import { type Findings, investigate, isHeld } from './who.ts';

/** The holder of a lock for which the kernel reports no pid. */
const ELSEWHERE = 'another host, or an OFD lock';
const DIRECTORY = "the lockspace's directory: TARGET/LOCKSPACE of the <lease>";

export function addLeases(program: Command, context: Context): void {
  const command = program.command('lease').description('create, delete and list the resources of <lease> elements');

  command
    .command('create')
    .description('create a resource, and its lockspace if the daemon does not know it')
    .argument('<directory>', DIRECTORY, lockspacePath)
    .argument('<key>', "the resource's name: the <key> of the <lease>")
    .action(async (directory: string, key: string) => {
      const daemon = context.daemon();
      checkKey(key);
      await createLockspace(daemon, directory);
      await onResource(daemon, 'createResource', directory, key);
      print(`Lease ${name(toBytes(key))} is ready. For the guest's <devices>:`);
      print(leaseXml(directory, key));
    });

  command
    .command('delete')
    .description('delete a resource that is not locked')
    .argument('<directory>', DIRECTORY, lockspacePath)
    .argument('<key>', "the resource's name")
    .action(async (directory: string, key: string) => {
      const daemon = context.daemon();
      checkKey(key);
      await checkUnused(daemon, `${toBytes(directory)}/${toBytes(key)}`);
      await onResource(daemon, 'deleteResource', directory, key);
      print(`Deleted lease ${name(toBytes(key))}.`);
    });

  command
    .command('list')
    .description('list the resources of a lockspace, and who holds them')
    .argument('<directory>', DIRECTORY, lockspacePath)
    .option('--json', 'print a JSON array')
    .action(async (directory: string, options: { json?: true }) => {
      const leases = await listLeases(context.daemon(), toBytes(directory));
      if (options.json === true) {
        const objects = leases.map(({ key, owners, stranger }) => ({
          ...nameJson('key', key),
          holders: stranger === null ? owners.map(ownerJson) : [strangerJson(stranger)],
        }));
        print(json(objects, 2));
      } else if (leases.length === 0) print(style('dim', 'No lease.'));
      else {
        const rows = leases.map((lease) => [name(lease.key), heldBy(lease)]);
        print(table(['KEY', 'HELD BY'], rows));
      }
    });
}

/** Rejects a key that leaves the directory, which the daemon would accept. */
function checkKey(key: string): void {
  if (key === '' || key === '.' || key === '..' || key.includes('/')) {
    throw new CommandError(
      Exit.USAGE,
      `invalid key '${key}': it must be the name of a file in the lockspace's directory`,
    );
  }
}

/**
 * Rejects a resource that is locked. The C daemon itself refuses only a resource that is held by this name in this lockspace,
 * and unlinks a file that is held by another name or locked by another process.
 */
async function checkUnused(daemon: InquireClient, file: ByteString): Promise<void> {
  const shown = name(file);
  const findings = await investigate(daemon, file);
  if (isHeld(findings)) throw new CommandError(Exit.NO, `not deleted: ${shown} is locked by ${holders(findings)}`);
  const { failure } = findings;
  if (failure === 'ENOENT') throw new CommandError(Exit.NO, `there is no lease ${shown}`);
  if (failure !== null) {
    throw new CommandError(Exit.NO, `not deleted: cannot find out whether ${shown} is locked (${failure})`);
  }
}

function holders({ locks, daemonItself, outsiders, elsewhere, notes }: Findings): string {
  const owners = locks?.flatMap(({ holds }) => holds.map(({ owner: who }) => owner(who))) ?? [];
  const processes = outsiders.map(({ pid, program }) => `pid ${pid} (${name(program)})`);
  const daemon = daemonItself === null ? [] : ['the daemon itself'];
  return [...owners, ...daemon, ...processes, ...(elsewhere ? [notedOwners(notes) ?? ELSEWHERE] : [])].join(', ');
}

async function onResource(
  daemon: InquireClient,
  call: 'createResource' | 'deleteResource',
  directory: string,
  key: string,
): Promise<void> {
  // The daemon answers registered clients only. This process holds no lock, so the daemon does not kill it.
  const owner = { uuid: Buffer.alloc(16), name: 'virt-lockctl', id: 1, pid: process.pid };
  await daemon.ask(async (client) => {
    await client.call(lockProgram, 'register', { owner, flags: 0 });
    await client.call(lockProgram, call, { path: toBytes(directory), name: toBytes(key), flags: 0 });
  }, daemon.target.socket);
}

interface Lease {
  readonly key: ByteString;
  readonly owners: readonly OwnerInfo[];
  /** Another process with a lock. With a C daemon this is all that is known. `pid` is -1 if it is not known as one of this host. */
  readonly stranger: Obstacle['lock'];
  /** What other hosts say of it. */
  readonly notes: readonly HolderNote[];
}

async function listLeases(daemon: InquireClient, directory: ByteString): Promise<Lease[]> {
  let keys: string[];
  try {
    keys = readdirSync(toPath(directory), { encoding: 'latin1' }).sort();
  } catch (error) {
    throw new CommandError(Exit.NO, `cannot list ${name(directory)}: ${(error as NodeJS.ErrnoException).code ?? ''}`);
  }
  const held = new Map<ByteString, OwnerInfo[]>();
  if (await daemon.answersInquiries()) {
    for (const lockspace of await spellingsOf(daemon, directory)) {
      for (const lock of await daemon.locks({ lockspace })) {
        held.set(
          lock.name,
          lock.holds.map(({ owner: who }) => who),
        );
      }
    }
  }
  return keys.map((key) => {
    const owners = held.get(key);
    return owners === undefined ? strangersLease(directory, key) : { key, owners, stranger: null, notes: [] };
  });
}

/** Of a lease that the daemon does not hold. */
function strangersLease(directory: ByteString, key: ByteString): Lease {
  const file = path.join(directory, key);
  const { lock } = findObstacle(file, false);
  if (lock === null) return { key, owners: [], stranger: null, notes: [] };
  const id = fileId(file);
  const stranger = id !== null && isHere(lock, file, id) ? lock : { ...lock, pid: -1 };
  return { key, owners: [], stranger, notes: stranger === lock ? [] : notesIn(file) };
}

/** Every lockspace of this directory: other clients may have created it under another name. */
async function spellingsOf(daemon: InquireClient, directory: ByteString): Promise<ByteString[]> {
  const wanted = fileId(directory);
  const isSame = (other: ByteString): boolean => {
    const file = fileId(other);
    return file !== null && file.device === wanted?.device && file.inode === wanted.inode;
  };
  return (await daemon.lockspaces())
    .map(({ directory: known }) => known)
    .filter((known) => known !== '' && isSame(known));
}

function heldBy({ owners, stranger, notes }: Lease): string {
  if (stranger === null) return owners.map((one) => owner(one)).join(', ') || '-';
  return stranger.pid > 0 ? `pid ${stranger.pid}` : (notedOwners(notes) ?? ELSEWHERE);
}

/** An owner of which only the pid is known, or nothing. */
function strangerJson({ pid }: NonNullable<Obstacle['lock']>): Record<string, unknown> {
  const unknown = ownerJson({ pid, id: 0, name: '', uuid: '', identity: Identity.UNKNOWN });
  return pid > 0 ? unknown : { ...unknown, pid: null };
}

function leaseXml(directory: string, key: string): string {
  const escape = (text: string): string => text.replace(/[<>&'"]/g, (character) => `&#${character.charCodeAt(0)};`);
  return [
    '<lease>',
    `  <lockspace>${escape(path.basename(directory))}</lockspace>`,
    `  <key>${escape(key)}</key>`,
    `  <target path='${escape(path.dirname(directory))}'/>`,
    '</lease>',
  ].join('\n');
}
