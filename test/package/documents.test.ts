/**
 * What the documents show of a booted Debian 12 with guests: the transcript of docs/operations/install.md, README's installation, the
 * commands of docs/operations/crash.md, and a death in the demo, for root and for an ordinary user.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { guestXml, makeImage } from '../../src/lab/guest.ts';
import { eventually } from '../../src/lab/process.ts';
import { checkout } from '../../src/lab/trees.ts';
import { Host } from '../campaigns/deaths/host.ts';
import { Watch } from '../campaigns/deaths/watch.ts';
import { blocksFor } from '../support/blocks.ts';
import { normal, type Step, stepsIn } from '../support/documents.ts';
import { skipIf } from '../support/skip.ts';
import { arch, packageFile } from './deb.ts';
import { missingMachine } from './machine.ts';

const HERE = 'test/package/documents.test.ts';

describe('a machine with guests', function () {
  this.timeout(120_000);
  let host: Host;

  before(async function () {
    skipIf(this, missingMachine());
    packageFile();
    host = await Host.bare(undefined, [checkout]);
    await host.startLibvirtd();
  });

  after(async () => {
    await (host as Host | undefined)?.stop();
  });

  async function startGuest(name: string, image: string): Promise<void> {
    host.write(`/run/${name}.xml`, guestXml({ name, disks: [{ image }] }));
    await host.must('virsh', 'create', `/run/${name}.xml`);
  }

  /** Types commands into one shell of root's. Returns what each prints, errors as well. */
  async function type(commands: readonly string[]): Promise<Step[]> {
    const script = commands.map((command) => `printf '\\0'\n${command}\n`).join('');
    const { stdout } = await host.run('bash', '-c', `exec 2>&1; cd /root\n${script}`);
    const outputs = stdout.split('\0').slice(1);
    return commands.map((command, index) => ({ command, output: outputs[index] ?? '' }));
  }

  /** As type, for a block of lines that each succeed. */
  async function run(block: string): Promise<Step[]> {
    const steps = await type(['set -euo pipefail', ...block.trimEnd().split('\n'), 'echo done']);
    assert.equal(steps.at(-1)?.output, 'done\n', JSON.stringify(steps, undefined, 1));
    return steps;
  }

  it('shows the transcript of docs/operations/install.md', async () => {
    mkdirSync(host.machine.outside('/var/lib/images'));
    for (const name of ['db', 'web']) {
      makeImage(host.machine.outside('/var/lib/images'), `${name}.img`);
      await startGuest(name, `/var/lib/images/${name}.img`);
    }
    const [transcript, ...others] = blocksFor('docs/operations/install.md', HERE);
    assert.deepEqual(others, []);
    const printed = stepsIn((transcript?.text ?? '').replaceAll('_amd64.deb', `_${arch}.deb`));
    assert.ok(printed.length > 10);
    copyFileSync(packageFile(), host.machine.outside(`/root/${basename(packageFile())}`));
    const shown = await type(printed.map(({ command }) => command));
    for (const [index, { command, output }] of shown.entries())
      assert.equal(comparable(output), comparable(printed[index]?.output ?? ''), command);
  });

  it('is installed as README says', async () => {
    const [block, ...others] = blocksFor('README.md', HERE);
    assert.deepEqual(others, []);
    // deb.ts has built the package, compressed less.
    const [build, install = '', ...more] = block?.text.trimEnd().split('\n') ?? [];
    assert.deepEqual([build, more], ['npm ci && npm run package', []]);
    await run(`mkdir build\nmv virtlockd-node_*.deb build\n${install}`);
    assert.match(await host.must('virt-lockctl', 'status'), /^verdict +OK/);
  });

  it('shows what docs/operations/crash.md says', async () => {
    const blocks = blocksFor('docs/operations/crash.md', HERE).map(({ text }) => text);
    const [refused = '', permitted = '', died = '', looks = '', deaths = '', restarts = '', ...others] = blocks;
    assert.deepEqual(others, []);
    const image = makeImage(host.machine.directory, 'guest.img');
    await startGuest('guest', image);
    await host.must('sh', '-c', 'until virt-lockctl status | grep "would cost no lock"; do sleep 0.1; done');
    const tried = await run(deaths);
    const [before, after, ...more] = tried.filter(({ command }) => command === 'virt-lockctl list');
    assert.deepEqual(more, []);
    assert.match(before?.output ?? '', /guest\.img/);
    assert.equal(after?.output.replaceAll(/\b\d+s\b/g, 'AGE'), before?.output.replaceAll(/\b\d+s\b/g, 'AGE'));
    const figures = (text: string): string =>
      normal(text)
        .replaceAll(/\b\d+ (so far|ms)/g, 'N $1')
        .trimEnd();
    await eventually('status says how the daemon died', async () =>
      (await host.must('virt-lockctl', 'status')).split('\n').map(figures).includes(figures(died)),
    );
    const watch = new Watch([image]);
    const restarted = await run(restarts);
    await watch.stop();
    assert.deepEqual(watch.free, [], 'the lock was free');
    assert.ok(restarted.some(({ output }) => /^refused$/m.test(output)));
    assert.equal(await host.must('virsh', 'domstate', 'guest'), 'running');

    const [stop, ...noMore] = stepsIn(refused);
    assert.ok(stop !== undefined && noMore.length === 0);
    assert.deepEqual(await type([stop.command]), [{ command: stop.command, output: `${stop.output}\n` }]);
    const [properties, journal] = await run(looks).then((steps) => steps.slice(1));
    const names = [...(properties?.output ?? '').matchAll(/^(\w+)=\d+$/gm)].map(([, name]) => name);
    assert.deepEqual(names.sort(), ['FileDescriptorStoreMax', 'NFileDescriptorStore', 'NRestarts']);
    assert.match(journal?.output ?? '', /locks/);

    await run(permitted);
    await eventually('the guest has ended', async () => (await host.must('virsh', 'list', '--name')) === '');
  });

  const demo = [join(checkout, 'scripts/node'), join(checkout, 'scripts/demo.ts')] as const;

  /** The demo has killed a daemon, and its systemd another one in its place, with the lock. */
  function assertDeath(shown: string): void {
    const [, end = ''] = shown.split('kill -9');
    assert.match(end, /guest-b \(pid \d+\): refused: /);
    const [, pid, before] = /the daemon: pid (\d+), was (\d+)/.exec(end) ?? [];
    assert.ok(pid !== undefined && pid !== before, shown);
  }

  it('shows a death in the demo', async () => {
    assertDeath(await host.must(...demo));
    // systemd collects a unit that has ended when it has nothing else to do.
    const listUnits = ['systemctl', 'list-units', '--all', '--plain', '--no-legend', 'virtlockd-demo-*'] as const;
    await eventually('the unit is gone', async () => (await host.must(...listUnits)) === '');
  });

  it("shows it to an ordinary user, by that user's systemd", async () => {
    await host.must('useradd', '--create-home', '--uid', '1000', 'somebody');
    // Without logind a user manager runs as a service.
    await host.must('systemctl', 'start', 'user@1000.service');
    const user = ['--reuid=1000', '--regid=1000', '--clear-groups'];
    const environment = ['XDG_RUNTIME_DIR=/run/user/1000', 'HOME=/home/somebody'];
    assertDeath(await host.must('setpriv', ...user, 'env', ...environment, ...demo));
    await host.must('systemctl', 'stop', 'user@1000.service');
  });
});

/** Without what differs from machine to machine: numbers of processes, files and inodes, sizes, and what apt says of its own. */
function comparable(text: string): string {
  const told = text
    .replaceAll(/^debconf: .*\n/gm, '')
    // Progress that is overwritten.
    .replaceAll(/[^\n]*\r(?!\n)/g, '')
    .replaceAll('\r', '')
    .replaceAll(/\b\d+ files/g, 'N files')
    .replaceAll(/\b\d+(?:\.\d+)? k?M?B\b/g, 'SIZE')
    .replaceAll(/\bprocess \d+/g, 'process N')
    .replaceAll(/\b[\da-f]{2,}:[\da-f]{2,}:\d+/g, 'FILE')
    .replaceAll(/^(\w+ +)\d+( +exclusive +)(?:\d+s|-)( +)(?:\d+|-)/gm, '$1PID$2AGE$3CLIENT')
    .replaceAll(/ +/g, ' ')
    .trimEnd();
  // The C daemon hands its locks over in no order.
  return told.startsWith('VM ') ? told.split('\n').sort().join('\n') : told;
}
