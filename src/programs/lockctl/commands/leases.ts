/**
 * `lease create|delete|list`: what a guest's <lease> element needs before the guest can start. libvirt creates neither the
 * lockspace (the directory `<target path>/<lockspace>`) nor the resource (the file `<key>` in it).
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { Identity, type OwnerInfo } from '../../../../xdr/programs/inquire.ts';
import { lockProgram } from '../../../../xdr/programs/lock.ts';
import type { Client } from '../../../client/client.ts';
import { type Context, toBytes, toPath } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import { fileId, findObstacle, type Obstacle } from '../kernel/holders.ts';
import { json, name, nameJson, owner, ownerJson, print, style, table } from '../output.ts';
import { createLockspace, lockspacePath } from './lockspaces.ts';
import { type Findings, investigate, isHeld } from './who.ts';

/** Whoever has a lock of which the kernel tells no pid. */
const ELSEWHERE = 'another host, or an OFD lock';
const DIRECTORY = "the lockspace's directory: TARGET/LOCKSPACE of the <lease>";

export function addLeases(program: Command, context: Context): void {
  const command = program
    .command('lease')
    .description('make, remove and list the resources that <lease> elements name');

  command
    .command('create')
    .description('make a resource, and its lockspace if the daemon does not know it')
    .argument('<directory>', DIRECTORY, lockspacePath)
    .argument('<key>', "the resource's name: the <key> of the <lease>")
    .action(async (directory: string, key: string) => {
      const daemon = context.daemon();
      checkKey(key);
      await createLockspace(daemon, directory);
      await onResource(daemon, 'createResource', directory, key);
      print(`Lease ${name(toBytes(key))} is there. In the guest's <devices>:`);
      print(leaseXml(directory, key));
    });

  command
    .command('delete')
    .description('remove a resource that nobody holds')
    .argument('<directory>', DIRECTORY, lockspacePath)
    .argument('<key>', "the resource's name")
    .action(async (directory: string, key: string) => {
      const daemon = context.daemon();
      checkKey(key);
      await checkUnused(daemon, `${toBytes(directory)}/${toBytes(key)}`);
      await onResource(daemon, 'deleteResource', directory, key);
      print(`Lease ${name(toBytes(key))} is gone.`);
    });

  command
    .command('list')
    .description('list the resources in a lockspace, and who holds them')
    .argument('<directory>', DIRECTORY, lockspacePath)
    .option('--json', 'one JSON array')
    .action(async (directory: string, options: { json?: true }) => {
      const leases = await listLeases(context.daemon(), toBytes(directory));
      if (options.json === true) {
        print(
          json(
            leases.map(({ key, owners, stranger }) => ({
              ...nameJson('key', key),
              holders: stranger === null ? owners.map(ownerJson) : [strangerJson(stranger)],
            })),
            2,
          ),
        );
      } else if (leases.length === 0) print(style('dim', 'There is none.'));
      else
        print(
          table(
            ['KEY', 'HELD BY'],
            leases.map((lease) => [name(lease.key), heldBy(lease)]),
          ),
        );
    });
}

/** A key that would leave the directory is a mistake, though the daemon would do it. */
function checkKey(key: string): void {
  if (key === '' || key === '.' || key === '..' || key.includes('/')) {
    throw new CommandError(
      Exit.USAGE,
      `'${key}' cannot be a key: it is the name of a file in the lockspace's directory`,
    );
  }
}

/**
 * The daemon refuses what is held by this very name in this very lockspace, and unlinks anything else: also a file that is
 * held by another name, or locked by somebody else.
 */
async function checkUnused(daemon: InquireClient, file: ByteString): Promise<void> {
  const shown = name(file);
  const findings = await investigate(daemon, file);
  if (isHeld(findings)) throw new CommandError(Exit.NO, `${shown} is locked by ${holders(findings)}: it stays`);
  const { failure } = findings;
  if (failure === 'ENOENT') throw new CommandError(Exit.NO, `there is no lease ${shown}`);
  if (failure !== null) {
    throw new CommandError(Exit.NO, `it cannot be told whether ${shown} is locked (${failure}): it stays`);
  }
}

function holders({ locks, daemonItself, outsiders, elsewhere }: Findings): string {
  const owners = locks?.flatMap(({ holds }) => holds.map(({ owner: who }) => owner(who))) ?? [];
  const processes = outsiders.map(({ pid, program }) => `pid ${pid} (${name(program)})`);
  const daemon = daemonItself === null ? [] : ['the daemon itself'];
  return [...owners, ...daemon, ...processes, ...(elsewhere ? [ELSEWHERE] : [])].join(', ');
}

async function onResource(
  daemon: InquireClient,
  call: 'createResource' | 'deleteResource',
  directory: string,
  key: string,
): Promise<void> {
  const client = await daemon.lockClient();
  try {
    await register(client);
    await client.call(lockProgram, call, { path: toBytes(directory), name: toBytes(key), flags: 0 });
  } catch (error) {
    throw await daemon.explain(error);
  }
}

/** Whoever creates must be registered: as this very process, which holds nothing and so is not missed. */
async function register(client: Client): Promise<void> {
  const owner = { uuid: Buffer.alloc(16), name: 'virt-lockctl', id: 1, pid: process.pid };
  await client.call(lockProgram, 'register', { owner, flags: 0 });
}

interface Lease {
  readonly key: ByteString;
  readonly owners: readonly OwnerInfo[];
  /** Who else has it locked: all that can be told with a C daemon. */
  readonly stranger: Obstacle['lock'];
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
    if (owners !== undefined) return { key, owners, stranger: null };
    return { key, owners: [], stranger: findObstacle(path.join(directory, key), false).lock };
  });
}

/** Every lockspace that is this directory: others may have made it known by another name. */
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

function heldBy({ owners, stranger }: Lease): string {
  if (stranger === null) return owners.map(owner).join(', ') || '-';
  return stranger.pid > 0 ? `pid ${stranger.pid}` : ELSEWHERE;
}

/** As an owner of whom no more is known than the pid, and not even that when it is null. */
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
