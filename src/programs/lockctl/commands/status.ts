/** `status`: one screen about the daemon. */
import type { Command } from 'commander';
import type { StatusInfo, StorageInfo } from '../../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import { formatVersion } from '../inquire-client.ts';
import { assess } from '../health/assess.ts';
import { seconds } from '../health/etcd.ts';
import { deathsJson, lastDeathText, survivalText } from '../health/survival.ts';
import { verdictLine } from './health.ts';
import { count as plural, decode, duration, json, name, nameJson, print, style } from '../output.ts';

export function addStatus(program: Command, context: Context): void {
  program
    .command('status')
    .description('show version, uptime, limits and their use, restarts and warnings')
    .option('--json', 'print JSON')
    .action(async (options: { json?: true }) => {
      const daemon = context.daemon();
      const [status, counters] = [await daemon.status(), await daemon.counters()];
      const { verdict, summary } = await assess(daemon);
      if (options.json === true) {
        const storages = (await daemon.storages()).map(storageJson);
        const state = {
          ...statusJson(status),
          ...deathsJson(counters),
          storages,
          counters: Object.fromEntries(counters),
        };
        print(json({ ...state, verdict, summary }, 2));
      } else for (const line of describe(status, counters, verdictLine({ verdict, summary }))) print(line);
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

/** Storage that may hang, and the calls that wait for it: an owner's pid of 0 is none. */
function storageJson({ name: storage, pid, hangsSince, callCount, calls }: StorageInfo): Record<string, unknown> {
  return {
    ...nameJson('name', storage),
    helper: pid,
    hangsSince: hangsSince === 0 ? null : new Date(hangsSince).toISOString(),
    callCount,
    calls: calls.map(({ path, pid: ownerPid, since }) => ({
      ...nameJson('path', path),
      owner: ownerPid,
      since: new Date(since).toISOString(),
    })),
  };
}

/** @param verdict as 'health' begins */
function describe(status: StatusInfo, counters: ReadonlyMap<string, number>, verdict: string): string[] {
  const now = Date.now();
  const { lockServer, adminServer, descriptorLimit } = status;
  const count = (key: string): number => counters.get(key) ?? 0;
  const rows: [string, string][] = [
    ['verdict', verdict],
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
    ...etcdRow(counters),
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

/** This host's part of the locks in etcd; null where no lockspace is kept there. */
export function leaseText(counters: ReadonlyMap<string, number>): string | null {
  const [locks, owners = 0, age = 0, left = 0] = ['etcdLocks', 'etcdOwners', 'etcdLeaseAge', 'etcdLeaseLeft'].map(
    (key) => counters.get(key),
  );
  if (locks === undefined) return null;
  const what = owners === 0 ? 'it ends' : `${plural(owners, 'owner')} would be killed`;
  const lease =
    counters.get('etcdLeaseHeld') === 1
      ? `lease kept alive ${seconds(age)} ago; without that, ${what} in ${seconds(left)}`
      : 'without a lease';
  const guard = counters.get('etcdGuarded') === 1 ? '' : ', unguarded';
  const watchdog = counters.get('etcdWatchdog') === 1 ? '' : ', no watchdog';
  return `${plural(locks, 'lock')}, ${lease}${guard}${watchdog}`;
}

/** None where no lockspace is kept in etcd. */
function etcdRow(counters: ReadonlyMap<string, number>): [string, string][] {
  const text = leaseText(counters);
  return text === null ? [] : [['etcd', text]];
}

/** What would become of the locks if the daemon died. None for a daemon whose release does not report it. */
function deathRow({ locks }: StatusInfo, counters: ReadonlyMap<string, number>): [string, string][] {
  const deaths = counters.get('deaths');
  if (deaths === undefined) return [];
  const before = deaths === 0 ? '' : `${deaths} so far${lastDeathText(counters)}; `;
  return [['deaths', `${before}${survivalText(locks, counters)}`]];
}
