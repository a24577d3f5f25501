/**
 * `lease create|delete|list`: what a guest's <lease> element needs before the guest can start. libvirt creates neither the
 * lockspace (the directory `<target path>/<lockspace>`) nor the resource (the file `<key>` in it).
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { lockProgram } from '../../../xdr/programs/lock.ts';
import type { Client } from '../../client/client.ts';
import { type Context, toBytes, toPath } from '../context.ts';
import { type Daemon, explain } from '../daemon.ts';
import { CommandError, Exit } from '../exit.ts';
import { findObstacle } from '../kernel/holders.ts';
import { json, name, owner, print, style, table } from '../output.ts';
import { createLockspace } from './lockspaces.ts';

const DIRECTORY = "the lockspace's directory: TARGET/LOCKSPACE of the <lease>";

export function addLeases(program: Command, context: Context): void {
  const command = program
    .command('lease')
    .description('make, remove and list the resources that <lease> elements name');

  command
    .command('create')
    .description('make a resource, and its lockspace if the daemon does not know it')
    .argument('<directory>', DIRECTORY)
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
    .argument('<directory>', DIRECTORY)
    .argument('<key>', "the resource's name")
    .action(async (directory: string, key: string) => {
      checkKey(key);
      await onResource(context.daemon(), 'deleteResource', directory, key);
      print(`Lease ${name(toBytes(key))} is gone.`);
    });

  command
    .command('list')
    .description('list the resources in a lockspace, and who holds them')
    .argument('<directory>', DIRECTORY)
    .option('--json', 'one JSON array')
    .action(async (directory: string, options: { json?: true }) => {
      const leases = await listLeases(context.daemon(), directory);
      if (options.json === true) {
        print(
          json(
            leases.map(({ key, holders }) => ({ key: name(key), holders })),
            2,
          ),
        );
      } else if (leases.length === 0) print(style('dim', 'There is none.'));
      else
        print(
          table(
            ['KEY', 'HELD BY'],
            leases.map(({ key, holders }) => [name(key), holders.join(', ') || '-']),
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

async function onResource(
  daemon: Daemon,
  call: 'createResource' | 'deleteResource',
  directory: string,
  key: string,
): Promise<void> {
  const client = await daemon.lockClient();
  try {
    await register(client);
    await client.call(lockProgram, call, { path: toBytes(directory), name: toBytes(key), flags: 0 });
  } catch (error) {
    throw explain(error, daemon.target.name);
  }
}

/** Whoever creates must be registered: as this very process, which holds nothing and so is not missed. */
async function register(client: Client): Promise<void> {
  const owner = { uuid: Buffer.alloc(16), name: 'virt-lockctl', id: 1, pid: process.pid };
  await client.call(lockProgram, 'register', { owner, flags: 0 });
}

interface Lease {
  readonly key: string;
  readonly holders: string[];
}

async function listLeases(daemon: Daemon, directory: string): Promise<Lease[]> {
  let keys: string[];
  try {
    keys = readdirSync(directory, { encoding: 'latin1' }).sort();
  } catch (error) {
    throw new CommandError(Exit.NO, `cannot list ${directory}: ${(error as Error).message}`);
  }
  const held = new Map<string, string[]>();
  if (await daemon.answersInquiries()) {
    for (const lock of await daemon.locks({ lockspace: toBytes(directory) })) {
      held.set(
        lock.name,
        lock.holds.map(({ owner: who }) => owner(who)),
      );
    }
  }
  return keys.map((key) => ({ key, holders: held.get(key) ?? strangers(directory, key) }));
}

/** Who else has it locked: all that can be told with a C daemon. */
function strangers(directory: string, key: string): string[] {
  const file = path.join(directory, toPath(key).toString());
  const { lock } = findObstacle(file, false);
  if (lock === null) return [];
  return [lock.pid > 0 ? `pid ${lock.pid}` : 'another host, or an OFD lock'];
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
