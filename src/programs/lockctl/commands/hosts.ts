/** `host list|fence`: the hosts that have locks in etcd. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import type { EtcdHost, EtcdLock } from '../../../../xdr/programs/inquire.ts';
import { type Context, toBytes } from '../context.ts';
import { leaseText } from '../etcd-locks.ts';
import { CommandError, Exit } from '../exit.ts';
import type { InquireClient } from '../inquire-client.ts';
import { notEmpty } from '../not-empty.ts';
import { age, count, json, name, nameJson, print, printText, style, table } from '../output.ts';

export function addHosts(program: Command, context: Context): void {
  const command = program.command('host').description('list the hosts that have locks in etcd, and free a dead one');

  command
    .command('list')
    .description('list the hosts that have a lease in etcd, and how many locks each holds')
    .option('--json', 'print a JSON array')
    .action(async (options: { json?: true }) => {
      const { hosts, locks, own } = await look(context.daemon());
      if (options.json === true) {
        const rows = hosts.map((host) => ({
          ...hostJson(host),
          locks: locksOf(host, locks).length,
          isThis: host.lease === own,
        }));
        print(json(rows, 2));
        return;
      }
      if (hosts.length === 0) {
        print(style('dim', 'No host has a lease.'));
        return;
      }
      const rows = hosts.map((host) => [
        host.host === '' ? '-' : name(host.host),
        host.lease === own ? 'this one' : '',
        String(locksOf(host, locks).length),
        host.pid === 0 ? '-' : String(host.pid),
        age(host.since),
        `${host.left} of ${host.seconds} s`,
        leaseText(host.lease),
      ]);
      print(table(['HOST', '', 'LOCKS', 'DAEMON', 'SINCE', 'LEFT', 'LEASE'], rows));
    });

  command
    .command('fence')
    .description('revoke the lease of a dead host in etcd, which frees its locks at once')
    .argument('<name>', 'the name of the host, or its lease', notEmpty('the name'))
    .option('-y, --yes', 'do not ask: the host is known to be off, or cut off from all of its disks')
    .addHelpText(
      'after',
      '\nFirst switch the host off, or cut it off from its disks: nobody ends its guests otherwise, and two hosts would write.\nWithout this command the locks are free when the lease has ended by itself.\nExit status 1: there is no such host, or you did not agree.',
    )
    .action(async (wanted: string, options: { yes?: true }) => {
      process.exitCode = await fence(context.daemon(), wanted, options.yes === true);
    });
}

interface Sight {
  readonly hosts: readonly EtcdHost[];
  readonly locks: readonly EtcdLock[];
  /** This host's lease. */
  readonly own: string;
}

async function look(daemon: InquireClient): Promise<Sight> {
  const etcd = await daemon.etcd();
  if (etcd === null) throw new CommandError(Exit.NO, NO_ETCD);
  return { hosts: await daemon.etcdHosts(), locks: await daemon.etcdLocks(), own: etcd.lease };
}

export const NO_ETCD = 'this daemon keeps no lockspace in etcd: etcd_endpoints in virtlockd.conf names its members';

function locksOf({ lease }: EtcdHost, locks: readonly EtcdLock[]): EtcdLock[] {
  return locks.filter((lock) => lock.lease === lease);
}

function hostJson({ host, lease, pid, since, seconds, left }: EtcdHost): Record<string, unknown> {
  return {
    ...nameJson('host', host),
    lease: leaseText(lease),
    pid,
    since: since === 0 ? null : new Date(since).toISOString(),
    seconds,
    left,
  };
}

async function fence(daemon: InquireClient, wanted: string, isAgreed: boolean): Promise<number> {
  const { hosts, locks, own } = await look(daemon);
  const found = hosts.filter(({ host, lease }) => host === toBytes(wanted) || leaseText(lease) === wanted);
  const [host, other] = found;
  if (host === undefined)
    throw new CommandError(Exit.NO, `no host '${wanted}' has a lease: 'virt-lockctl host list' lists them`);
  if (other !== undefined)
    throw new CommandError(
      Exit.NO,
      `several daemons have that name: give one of the leases ${found.map(({ lease }) => leaseText(lease)).join(', ')}`,
    );
  if (host.lease === own) throw new CommandError(Exit.NO, 'that is this host, whose guests the daemon would kill');
  const held = locksOf(host, locks);
  print(`${style('bold', name(host.host))} has ${count(held.length, 'lock')} on lease ${leaseText(host.lease)}:`);
  for (const { path, owners } of held)
    print(`  ${name(path)}: ${owners.map(({ name: vm, pid }) => `${name(vm)} (pid ${pid})`).join(', ')}`);
  const isAlive = host.seconds > 0 && host.left > host.seconds / 2;
  if (isAlive)
    print(
      style(
        'yellow',
        `Its lease was kept alive ${host.seconds - host.left} s ago: its daemon runs, and would kill these guests.`,
      ),
    );
  print('Their disks are free at once. What must be true: the host is off, or cut off from all of these disks.');
  if (!isAgreed && !(await confirm())) {
    print('Nothing was done.');
    return Exit.NO;
  }
  await daemon.etcdRevoke(host.lease);
  print(`The lease of ${name(host.host)} is revoked.`);
  return Exit.OK;
}

async function confirm(): Promise<boolean> {
  printText('Is that so? [y/N] ');
  const lines = createInterface({ input: process.stdin });
  try {
    const answer = await new Promise<string>((resolve) => {
      lines.once('line', resolve);
      lines.once('close', () => {
        resolve('');
      });
    });
    return /^y(?:es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}
