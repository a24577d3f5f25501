/** `clients`: the connections, and the locks of their owners. */
import type { Command } from 'commander';
import type { ClientInfo, LockInfo } from '../../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import { programOf } from '../kernel/holders.ts';
import { age, json, lockJson, mode, name, nameJson, ownerJson, print, style, table } from '../output.ts';

const HEADINGS = ['SERVER', 'ID', 'PID', 'PROGRAM', 'CONNECTED', 'FOR', 'OWNER PID', 'LOCKS', 'STATE'];

export function addClients(program: Command, context: Context): void {
  program
    .command('clients')
    .description('list the connections, and how many locks their owners hold')
    .option('--locks', 'also list the locks')
    .option('--admin', 'also list the connections to the admin socket')
    .option('--json', 'print a JSON array')
    .action(async (options: { locks?: true; admin?: true; json?: true }) => {
      const daemon = context.daemon();
      const all = await daemon.clients();
      const clients = options.admin === true ? all : all.filter(({ server }) => server !== 'admin');
      const held = new Map<number, LockInfo[]>();
      if (options.locks === true) {
        const pids = new Set(clients.flatMap(({ owner, locks }) => (owner !== null && locks > 0 ? [owner.pid] : [])));
        for (const pid of pids) held.set(pid, await daemon.locks({ pid }, true));
      }
      if (options.json === true) {
        const objects = clients.map((client) => clientJson(client, held));
        print(json(objects, 2));
      } else if (clients.length === 0) print(style('dim', 'No client is connected.'));
      else if (options.locks === true) {
        const [head, ...rows] = table(HEADINGS, clients.map(rowOf)).split('\n');
        print(head ?? '');
        rows.forEach((row, index) => {
          print(row);
          const pid = clients[index]?.owner?.pid;
          for (const lock of (pid === undefined ? undefined : held.get(pid)) ?? []) {
            print(`    ${mode(lock)}  ${name(lock.path)}`);
          }
        });
      } else print(table(HEADINGS, clients.map(rowOf)));
    });
}

function rowOf({
  server,
  id,
  pid,
  connectedAt,
  owner,
  locks,
  restricted,
  isOwner,
  subscribed,
  unsent,
}: ClientInfo): string[] {
  const states = [
    owner === null && server !== 'admin' ? 'not registered' : '',
    isOwner ? 'owner itself' : '',
    restricted ? 'restricted' : '',
    subscribed ? 'watching' : '',
    unsent > 0 ? 'does not read' : '',
  ];
  return [
    server,
    String(id),
    String(pid),
    name(programOf(pid)) || '-',
    connectedAt === 0 ? '-' : age(connectedAt * 1000),
    owner === null ? '-' : name(owner.name) || '-',
    owner === null ? '-' : String(owner.pid),
    String(locks),
    states.filter((state) => state !== '').join(', ') || '-',
  ];
}

function clientJson(client: ClientInfo, held: ReadonlyMap<number, LockInfo[]>): Record<string, unknown> {
  const { server, id, pid, uid, gid, connectedAt, restricted, subscribed, received, unsent, owner, isOwner, locks } =
    client;
  const own = owner === null ? undefined : held.get(owner.pid);
  return {
    server,
    id,
    pid,
    uid,
    gid,
    ...nameJson('program', programOf(pid)),
    connected: connectedAt === 0 ? null : new Date(connectedAt * 1000).toISOString(),
    restricted,
    subscribed,
    receivedBytes: received,
    unsentBytes: unsent,
    owner: owner === null ? null : ownerJson(owner),
    isOwner,
    locks: own === undefined ? locks : own.map((lock) => lockJson(lock)),
  };
}
