/** `status`: one screen about the daemon. */
import type { Command } from 'commander';
import type { StatusInfo } from '../../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import { formatVersion } from '../inquire-client.ts';
import { count as plural, decode, duration, json, name, nameJson, print, style } from '../output.ts';

export function addStatus(program: Command, context: Context): void {
  program
    .command('status')
    .description('show version, uptime, limits and their use, restarts and warnings')
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const daemon = context.daemon();
      const [status, counters] = [await daemon.status(), await daemon.counters()];
      if (options.json === true) print(json({ ...statusJson(status), counters: Object.fromEntries(counters) }, 2));
      else for (const line of describe(status, counters)) print(line);
    });
}

function statusJson(status: StatusInfo): Record<string, unknown> {
  const { libvirtVersion, started, executed, residentMemory, program, warnings, ...rest } = status;
  return {
    ...rest,
    libvirtVersion: formatVersion(libvirtVersion),
    ...nameJson('program', program),
    started: new Date(started).toISOString(),
    executed: new Date(executed).toISOString(),
    residentMemory,
    warnings: warnings.map(decode),
  };
}

function describe(status: StatusInfo, counters: ReadonlyMap<string, number>): string[] {
  const now = Date.now();
  const { lockServer, adminServer, descriptorLimit } = status;
  const count = (key: string): number => counters.get(key) ?? 0;
  const rows: [string, string][] = [
    ['version', `${status.implementation}, speaks as libvirt ${formatVersion(status.libvirtVersion)}`],
    ['process', `pid ${status.pid}, ${Math.round(status.residentMemory / 1024 / 1024)} MiB resident`],
    ['program', name(status.program)],
    ['up', `${duration(now - status.started)}, since ${new Date(status.started).toISOString()}`],
    ['restarts', `${status.restarts}, this program for ${duration(now - status.executed)}`],
    ['locks', `${status.locks} in ${plural(status.lockspaces, 'lockspace')}, of ${plural(status.owners, 'owner')}`],
    [
      'clients',
      `${lockServer.clients} of ${lockServer.maxClients}, admin ${adminServer.clients} of ${adminServer.maxClients}`,
    ],
    ['descriptors', `${status.descriptors} of ${descriptorLimit === 0 ? 'any number' : descriptorLimit}`],
    ...memoryRow(counters),
    ...deathRow(status, counters),
    [
      'since then',
      `${count('acquired')} acquired, ${count('released')} released, ${count('refusedHeld') + count('refusedOtherwise')} refused`,
    ],
  ];
  return [
    ...rows.map(([label, value]) => `${style('bold', label.padEnd(12))} ${value}`),
    ...status.warnings.map((warning) => style('yellow', `warning: ${name(warning)}`)),
  ];
}

/** Empty for a release of the daemon that does not report it. */
function memoryRow(counters: ReadonlyMap<string, number>): [string, string][] {
  const [used, max] = [counters.get('lockMemory'), counters.get('lockMemoryMax')];
  if (used === undefined || max === undefined) return [];
  const toMiB = (bytes: number): number => Math.ceil(bytes / 1024 / 1024);
  return [['lock memory', `${toMiB(used)} of ${toMiB(max)} MiB`]];
}

/** What would become of the locks if the daemon died. None of a daemon whose release does not tell. */
function deathRow({ locks }: StatusInfo, counters: ReadonlyMap<string, number>): [string, string][] {
  const deaths = counters.get('deaths');
  if (deaths === undefined) return [];
  const before = deaths === 0 ? '' : `${deaths} so far; `;
  return [['deaths', `${before}${survivalText(locks, counters)}`]];
}

/** As it completes "what a death of the daemon". */
export function survivalText(locks: number, counters: ReadonlyMap<string, number>): string {
  const count = (key: string): number => counters.get(key) ?? 0;
  const mortal = count('mortalLocks');
  if (counters.get('store') !== 1) {
    const why = counters.get('store') === 0 ? 'there is no descriptor store' : 'no descriptor store is known';
    return `the next would cost all locks: ${why}`;
  }
  const reasons = [
    [count('mortalRemote'), 'on file systems that may hang'],
    [
      mortal - count('mortalRemote'),
      `of which the store (${count('stored')} of ${count('storeLimit')} descriptors) has none`,
    ],
  ] as const;
  const why = reasons.filter(([number]) => number > 0).map(([number, reason]) => `${number} ${reason}`);
  const missing = count('storeMissing') === 0 ? '' : `; ${count('storeMissing')} descriptors are not stored yet`;
  const cost = mortal === 0 ? 'no lock' : `${mortal} of ${locks} locks (${why.join(', ')})`;
  return `the next would cost ${cost}${missing}`;
}
