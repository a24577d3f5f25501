/** A session of the real virt-admin, played to any lock daemon. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { LockDaemon } from '../../lab/start.ts';
import type { Generation } from '../../lab/generation.ts';
import { treeOf } from '../../lab/trees.ts';
import type { Lab } from '../../lab/root.ts';
import { lock } from '../../lab/wire.ts';

/** An argument `{…}` stands for the id of one of the two clients of a session. */
export const commands: readonly string[][] = [
  ['uri'],
  ['version'],
  ['uri; version; server-threadpool-info virtlockd'],
  ['server-list'],
  ['srv-list'],
  ['server-threadpool-info', 'virtlockd'],
  ['srv-threadpool-info', 'admin'],
  ['srv-threadpool-info', 'nope'],
  ['srv-threadpool-info'],
  ['server-threadpool-set', 'virtlockd'],
  ['srv-threadpool-set', 'virtlockd', '--max-workers', '5'],
  ['srv-threadpool-set', 'virtlockd', '--min-workers', '5'],
  ['srv-threadpool-set', 'virtlockd', '--min-workers', '5', '--max-workers', '10'],
  ['srv-threadpool-set', 'virtlockd', '--min-workers', '5', '--max-workers', '3'],
  ['srv-threadpool-set', 'virtlockd', '--min-workers', '0', '--max-workers', '0'],
  ['srv-threadpool-set', 'virtlockd', '--priority-workers', '3'],
  ['srv-threadpool-info', 'virtlockd'],
  ['srv-threadpool-set', 'nope', '--priority-workers', '3'],
  ['client-list', 'virtlockd'],
  ['srv-clients-list', 'virtlockd'],
  ['srv-clients-list', 'admin'],
  ['client-list', 'nope'],
  ['client-info', 'virtlockd', '{registered}'],
  ['client-info', 'virtlockd', '{silent}'],
  ['client-info', 'virtlockd', '4294967296'],
  ['client-info', 'nope', '1'],
  ['client-disconnect', 'virtlockd', '4294967296'],
  ['client-disconnect', 'nope', '1'],
  ['server-clients-info', 'virtlockd'],
  ['srv-clients-info', 'admin'],
  ['srv-clients-info', 'nope'],
  ['server-clients-set', 'virtlockd'],
  ['srv-clients-set', 'virtlockd', '--max-clients', '10'],
  ['srv-clients-set', 'virtlockd', '--max-unauth-clients', '2000'],
  ['srv-clients-set', 'virtlockd', '--max-clients', '5', '--max-unauth-clients', '6'],
  ['srv-clients-set', 'virtlockd', '--max-clients', '50', '--max-unauth-clients', '20'],
  ['srv-clients-info', 'virtlockd'],
  ['srv-clients-set', 'virtlockd', '--max-clients', '20'],
  ['srv-clients-set', 'virtlockd', '--max-unauth-clients', '7'],
  ['srv-clients-info', 'virtlockd'],
  ['srv-clients-set', 'nope', '--max-clients', '5'],
  ['srv-update-tls', 'virtlockd'],
  ['server-update-tls', 'nope'],
  ['daemon-log-info'],
  ['daemon-log-filters'],
  ['daemon-log-filters', '3:rpc 1:util.object 4:+event'],
  ['daemon-log-filters'],
  ['daemon-log-filters', '5:rpc'],
  ['daemon-log-filters', 'rpc'],
  ['daemon-log-filters', '1:'],
  ['daemon-log-filters', '1:good 0:bad'],
  ['daemon-log-filters'],
  ['daemon-log-filters', ''],
  ['daemon-log-filters'],
  ['daemon-log-outputs'],
  ['daemon-log-outputs', '1:file:/run/virtlockd-test.log 4:stderr'],
  ['daemon-log-outputs'],
  ['daemon-log-outputs', '1:file:no-such-directory/../virtlockd-test.log'],
  ['daemon-log-outputs', '1:file:virtlockd-test.log 3:syslog:ident 4:journald'],
  ['daemon-log-outputs'],
  ['daemon-log-outputs', '4:stderr 1:nowhere'],
  ['daemon-log-outputs', '7:stderr'],
  ['daemon-log-outputs', 'stderr'],
  ['daemon-log-outputs', '1:stderr:x'],
  ['daemon-log-outputs', '1:file'],
  ['daemon-log-outputs', '1:file:/nowhere/virtlockd-test.log'],
  ['daemon-log-outputs', '1:file:/run'],
  ['daemon-log-outputs'],
  ['daemon-log-outputs', '1:stderr 2:stderr'],
  ['daemon-log-outputs'],
  ['daemon-log-outputs', ''],
  ['daemon-log-outputs'],
  ['daemon-timeout', '--timeout', '3600'],
  ['daemon-timeout', '--timeout', '0'],
  ['daemon-timeout'],
  ['client-disconnect', 'virtlockd', '{silent}'],
  ['client-info', 'virtlockd', '{silent}'],
  ['client-disconnect', 'virtlockd', '{registered}'],
  ['client-list', 'virtlockd'],
  ['daemon-shutdown', '--nonsense'],
];

/** A command as it is typed. */
export const typed = (command: readonly string[]): string =>
  command.map((argument) => (/^[\w{}.;:-]+$/.test(argument) ? argument : `'${argument}'`)).join(' ');

/** The outcome of a command, with names in place of variable values. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A row of client-list, and one of server-list. */
const CLIENT_ROW = /^ \d+ +unix +/;
const SERVER_ROW = /^ \d+ +(admin|virtlockd)$/;

/** Runs virt-admin once, in a lab whose libvirt paths lead to the daemon. */
export async function virtAdmin(lab: Lab, args: readonly string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await lab.run('virt-admin', ['-c', 'virtlockd:///system', ...args]);
  return { code, stdout, stderr };
}

/** The ids in a client-list, in its order. */
async function clientIds(lab: Lab): Promise<string[]> {
  const { stdout } = await virtAdmin(lab, ['client-list', 'virtlockd']);
  const rows = stdout.split('\n').filter((line) => CLIENT_ROW.test(line));
  return rows.map((line) => line.trim().split(' ', 1)[0] ?? '');
}

function normalize(text: string, ids: ReadonlyMap<string, string>): string {
  const lines = text
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4}/g, '<time>')
    .replace(/^(unix_process_id *: )\d+$/gm, '$1<pid>')
    .split('\n')
    .map((line) => {
      // Client ids depend on the number of earlier connections.
      if (CLIENT_ROW.test(line)) return line.replace(/\d+/, '<id>').replace(/ +/g, ' ');
      return [...ids].reduce(
        (rest, [name, id]) => rest.replace(new RegExp(`(^id +: |ID '|client ')${id}\\b`), `$1${name}`),
        line,
      );
    });
  // C lists its servers in an order that changes from run to run.
  const servers = lines.filter((line) => SERVER_ROW.test(line)).map((line) => line.replace(/\d/, '<n>'));
  return [...lines.filter((line) => !SERVER_ROW.test(line)), ...servers.sort()].join('\n');
}

/**
 * Runs all commands, with two clients connected: one that has registered, one that has sent nothing.
 * @param lab where virt-admin runs, which need not be the daemon's
 * @returns the outcomes in the order of `commands`
 */
export async function session(daemon: LockDaemon, lab: Lab = daemon.lab): Promise<Outcome[]> {
  const registered = await daemon.connect();
  // No process has this pid, so none is killed when the connection ends.
  await registered.must(lock.register({ pid: 4_194_305 }));
  const silent = await daemon.connect();
  const [first = '', second = ''] = await clientIds(lab);
  const ids = new Map([
    ['{registered}', first],
    ['{silent}', second],
  ]);
  const outcomes: Outcome[] = [];
  for (const command of commands) {
    const args = command.map((argument) => ids.get(argument) ?? argument);
    const { code, stdout, stderr } = await virtAdmin(lab, args);
    outcomes.push({ code, stdout: normalize(stdout, ids), stderr: normalize(stderr, ids) });
  }
  assert.equal(await silent.receive(), undefined);
  assert.equal(await registered.receive(), undefined);
  return outcomes;
}

/** Why that generation has no virt-admin here, or undefined. */
export function missingVirtAdmin(generation: Generation): string | undefined {
  const missing = !existsSync(join(treeOf(generation), 'usr/bin/virt-admin'));
  return missing ? `no virt-admin ${generation} (package libvirt-clients or libvirt-daemon-common)` : undefined;
}
