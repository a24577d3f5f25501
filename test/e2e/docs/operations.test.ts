/** Every command of the pages about virt-lockctl, virt-admin and monitoring, as it is printed, and what they say that it prints. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { guestXml, makeImage } from '../../../src/lab/guest.ts';
import { Libvirtd } from '../../../src/lab/libvirtd.ts';
import { eventually, type Finished, type Running } from '../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { Lab } from '../../../src/lab/root.ts';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { checkout, ownDirectories } from '../../../src/lab/trees.ts';
import { lock } from '../../../src/lab/wire.ts';
import { blocksFor } from '../../support/blocks.ts';
import {
  indentedBlocks,
  normal,
  readPage,
  runBlock,
  sectionOf,
  type Step,
  stepsIn,
  stepsOf,
} from '../../support/documents.ts';
import { missingPrometheus } from '../../support/prometheus.ts';
import { skipIf } from '../../support/skip.ts';

const IMAGES = '/run/images';
/** Above the highest pid. */
const NOBODY = 5_000_000;
const PATH = `${checkout}/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
const METRICS = '/var/lib/prometheus/node-exporter/virtlockd.prom';

/** The commands of tables are in the first column. */
const commandsOfTable = (text: string): string[] =>
  [...text.matchAll(/^\| (`.*?`) +\|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, command = '']) => command),
  );

describe('the pages of docs/operations', function () {
  this.timeout(120_000);
  const lockctl = readPage('docs/operations/lockctl.md');
  const admin = readPage('docs/operations/admin.md');
  const monitoring = readPage('docs/operations/monitoring.md');
  let lab: Lab;
  let daemon: LockDaemon;
  let libvirtd: Libvirtd;
  const running: Running[] = [];
  const shown: Step[] = [];

  /** As an operator types it. Questions are answered with yes. */
  const shell = async (command: string): Promise<Finished> =>
    lab.run('bash', ['-c', `{ ${command}\n} 2>&1`], { env: { PATH }, input: 'y\n' });
  const must = async (command: string): Promise<string> => {
    const { code, stdout } = await shell(command);
    assert.equal(code, 0, `${command}: ${stdout}`);
    return stdout;
  };
  /** Starts one that goes on until it is interrupted. */
  const start = (command: string): Running => {
    const one = lab.spawn('bash', ['-c', `exec ${command}`], { env: { PATH } });
    running.push(one);
    return one;
  };
  const comparable = (text: string): string =>
    normal(text)
      // Nobody's answer is printed where no terminal is.
      .replaceAll('[y/N] y\n', '[y/N] ')
      .replaceAll(checkout, '/usr/lib/virtlockd-node')
      .replaceAll(/\b\d+s\b/g, 'AGE')
      .replaceAll(/\b\d+ MiB/g, 'N MiB')
      .replaceAll(/\b\d+ of \d{5,}/g, 'N of N')
      .replaceAll(/\bclient \d+/g, 'client N')
      .replaceAll(/^(\S+ {2})\d+( {2}(?:exclusive|shared))/gm, '$1N$2')
      .replaceAll(/(AGE {2})\d+/g, '$1N')
      .trimEnd();
  const shows = async (...steps: readonly (Step | undefined)[]): Promise<void> => {
    assert.ok(steps.length > 0);
    for (const step of steps) {
      assert.ok(step !== undefined);
      const { stdout } = await shell(step.command);
      assert.equal(comparable(stdout), comparable(step.output), `${step.command}:\n${stdout}`);
      shown.push(step);
    }
  };
  const stepsBelow = (title: string): Step[] => stepsOf(sectionOf(lockctl, title));
  const startGuest = async (
    name: string,
    disks: readonly string[],
    keys: readonly string[] = [],
  ): Promise<Finished> => {
    const leases = keys.map((key) => ({ lockspace: 'leases', key, target: IMAGES }));
    const images = disks.map((disk) => ({ image: `${IMAGES}/${disk}` }));
    lab.write(`/root/${name}.xml`, guestXml({ name, disks: images, leases }));
    return shell(`virsh create /root/${name}.xml`);
  };

  before(async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'), missingGuests('9.0.0'), missingPrometheus());
    // Offline, because the pages name ports.
    lab = await Lab.open({ share: ownDirectories, offline: true });
    await lab.run('python3', ['-c', LOOPBACK_UP]);
    daemon = await startDaemon('9.0.0', { lab });
    libvirtd = new Libvirtd(lab);
    await libvirtd.start();
    mkdirSync(lab.outside(IMAGES));
    for (const name of ['web.img', 'db.img']) makeImage(lab.outside(IMAGES), name);
    assert.equal((await startGuest('web', ['web.img'])).code, 0);
  });

  after(async () => {
    for (const one of running) await one.stop('SIGINT');
    await (libvirtd as Libvirtd | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
    await (lab as Lab | undefined)?.close();
  });

  /** Whatever is in place of `COMMAND`. */
  const withCommand = (block: string): string[] =>
    block
      .trimEnd()
      .replaceAll(/ *#.*$/gm, '')
      .replaceAll('COMMAND', 'status')
      .split('\n');

  describe('lockctl.md', () => {
    it('shows what the C daemon leaves to be said, and the swap to this one', async () => {
      await shows(...stepsOf(lockctl.split('\n## ')[0] ?? ''));
      await shows(...stepsBelow('Swapping the daemon live'));
    });

    it('shows how a lease is made', async () => {
      await shows(...stepsBelow('Leases'));
    });

    it('shows who holds a disk, and a refusal, as the log has it, too', async () => {
      assert.equal((await startGuest('db', ['db.img'], ['key'])).code, 0);
      assert.match((await startGuest('db2', [], ['key'])).stdout, /resource busy: Lockspace resource 'key' is locked/);
      const title = '"resource busy: Lockspace resource … is locked"';
      await shows(...stepsBelow(title));
      const line = indentedBlocks(sectionOf(lockctl, title)).find((block) => block.startsWith('warning : … '));
      assert.ok(line !== undefined);
      assert.ok(normal(daemon.log).includes(normal(line.slice('warning : … '.length).trimEnd())), daemon.log);
    });

    it('shows all locks, and that they are in place', async () => {
      await shows(...stepsBelow('What is locked'), ...stepsBelow('Is every lock in place'));
    });

    it('has a line that writes metrics until it is stopped', async () => {
      await must('mkdir -p /var/lib/prometheus/node-exporter');
      const blocks = indentedBlocks(sectionOf(lockctl, 'Is every lock in place'));
      const command = blocks.find((block) => block.startsWith('virt-lockctl metrics ')) ?? '';
      assert.ok(command.includes(METRICS));
      const writer = start(command.trimEnd());
      await eventually('they are written', () => existsSync(lab.outside(METRICS)));
      assert.match(readFileSync(lab.outside(METRICS), 'utf8'), /^virtlockd_up 1$/m);
      assert.equal((await writer.stop('SIGINT')).code, 0);
    });

    it('shows how the daemon is named', async () => {
      const [usual, session, directory, ...more] = withCommand(indentedBlocks(lockctl)[0] ?? '');
      assert.deepEqual(more, []);
      for (const command of [usual, directory]) assert.match(await must(command ?? ''), /^verdict {2,}/);
      // Root has no session's daemon here.
      assert.match((await shell(session ?? '')).stdout, /\/root\/.*virtlockd-admin-sock|\/run\/user\/0\//);
    });
  });

  describe('monitoring.md', () => {
    it('names metrics and alerts that there are', async () => {
      const metrics = await must('virt-lockctl metrics');
      const named: string[] = [];
      // `_owners` behind `virtlockd_locks` stands for `virtlockd_owners`.
      for (const name of commandsOfTable(sectionOf(monitoring, 'Metrics')))
        named.push(name.startsWith('_') ? (named.at(-1) ?? '').replace(/_[^_]*$/, name) : name);
      assert.ok(named.length > 10);
      // Those of storage that may hang are there while such storage is used, and those of etcd where locks are kept there.
      const source = readPage('src/programs/lockctl/metrics.ts');
      for (const name of named) {
        if (/^virtlockd_(hanging|etcd)_/.test(name)) assert.ok(source.includes(`'${name}'`), name);
        else assert.match(metrics, new RegExp(`^# TYPE ${name} `, 'm'));
      }
      const rules = readPage('packaging/monitoring/virtlockd.rules.yml');
      const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, alert]) => alert).sort();
      const rows = [...sectionOf(monitoring, 'Alerts').matchAll(/^\| (Virtlockd[\w, ]*\w) +\|/gm)];
      assert.deepEqual(rows.flatMap(([, row = '']) => row.split(', ')).sort(), alerts);
    });

    it('has lines by which Prometheus reads the metrics and the rules', async () => {
      await must(`mkdir -p /usr/share/virtlockd-node /etc/prometheus &&
        ln -s ${checkout}/packaging/monitoring /usr/share/virtlockd-node/monitoring`);
      const [token = '', serve = '', ...more] = runBlock(monitoring, 'serve').trimEnd().split('\n');
      assert.deepEqual(more, []);
      await must(token);
      const server = start(serve);
      await eventually('it serves', () => server.output.includes('http://127.0.0.1:9911/'), 20_000);
      await must('cp /etc/virtlockd-token /etc/prometheus/virtlockd-token');
      assert.match(await must(runBlock(monitoring, 'check rules')), /SUCCESS/);
      const blocks = ['scrape', 'rules'].map((name) => runBlock(monitoring, name));
      lab.write('/etc/prometheus/prometheus.yml', `global: { scrape_interval: 1s }\n${blocks.join('')}`);
      start('prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/run/tsdb');
      const ask = async (path: string): Promise<string> => (await shell(`python3 -c '${GET}' ${path}`)).stdout;
      await eventually('it is scraped', async () => (await ask('query?query=virtlockd_up')).includes(',"1"]'), 30_000);
      assert.match(await ask('rules'), /"name":"VirtlockdUnsafe"/);
    });
  });

  describe('admin.md', () => {
    const uri = 'virt-admin -c virtlockd:///system';

    it('names commands that work', async () => {
      assert.ok(admin.includes(`    ${uri} COMMAND\n`));
      const commands = [...commandsOfTable(sectionOf(admin, 'What it shows'))].concat(
        commandsOfTable(sectionOf(admin, 'What it changes')),
      );
      assert.ok(commands.length >= 14, commands.join('\n'));
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: NOBODY }));
      const id = /^ (\d+) .*\s*$/m.exec((await must(`${uri} client-list virtlockd | sort -rn`)).trimEnd())?.[1] ?? '';
      for (const command of commands) {
        // virt-admin 9.0.0 lacks it: test/wire/admin/virt-admin.test.ts has it with 12.8.0.
        if (command === 'daemon-shutdown') continue;
        const typed = command.replace(/ ID$/, ` ${id}`).replace(/ N$/, ' 2000').replace(/ S$/, ' 3600');
        await must(`${uri} ${typed}`);
      }
      assert.equal(await peer.ask(lock.register({ pid: NOBODY })).catch(() => 'closed'), 'closed');
      for (const command of ['server-update-tls virtlockd', 'server-threadpool-set virtlockd --max-workers 5'])
        assert.equal((await shell(`${uri} ${command}`)).code, 1, command);
    });

    it('rotates the log file', async () => {
      const file = '/var/log/libvirt/virtlockd.log';
      const inode = await must(`stat --format %i ${file}`);
      await must(runBlock(admin, 'rotate'));
      assert.equal(await must(`stat --format %i ${file}.1`), inode);
      assert.notEqual(await must(`stat --format %i ${file}`), inode);
      await must(`${uri} daemon-log-filters '' && ${uri} daemon-log-outputs ''`);
    });
  });

  describe('lockctl.md', () => {
    it('shows a host after a death, its way out, and the release of what a dead owner holds', async () => {
      await daemon.stop('SIGKILL');
      daemon = await startDaemon('ours', { lab, program: PROGRAM });
      await must('virsh suspend web && virsh resume web');
      const [health, release, ...more] = stepsBelow('Is this host safe');
      assert.deepEqual(more, []);
      await shows(health);
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: NOBODY, name: 'db' }));
      await peer.must(lock.acquire('', `${IMAGES}/db.img`));
      await shows(release);
      peer.close();
      const waysOut = [...(health?.output ?? '').matchAll(/^ {4}(\S.*)$/gm)].map(([, command = '']) => command);
      assert.equal(waysOut.length, 4);
      // They are the same for the disk and the lease.
      for (const command of waysOut.slice(0, 2)) await must(command);
      assert.match(await must('virt-lockctl health'), /^OK: 2 guests, 3 locks, /);
    });

    it('shows nothing else', () => {
      assert.deepEqual(
        blocksFor('docs/operations/lockctl.md', 'test/e2e/docs/operations.test.ts')
          .flatMap(({ text }) => (text.startsWith('# ') ? stepsIn(text) : []))
          .filter(({ command, output }) => !shown.some((one) => one.command === command && one.output === output)),
        [],
      );
    });
  });

  it('have no blocks that are not run above', () => {
    const others = (page: string): number =>
      blocksFor(page, 'test/e2e/docs/operations.test.ts').filter(({ text }) => !text.startsWith('# ')).length;
    // How the daemon is named, a line of the log, metrics that are written.
    assert.equal(others('docs/operations/lockctl.md'), 3);
    // What is before a command, and `rotate`.
    assert.equal(others('docs/operations/admin.md'), 2);
    // `serve`, `scrape`, `rules`, `check rules`.
    assert.equal(others('docs/operations/monitoring.md'), 4);
  });
});

const LOOPBACK_UP = `import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack('16sh22x', b'lo', IFF_UP))`;

/** Asks Prometheus, from a shell. */
const GET =
  'import sys, urllib.request; print(urllib.request.urlopen("http://127.0.0.1:9090/api/v1/" + sys.argv[1]).read().decode())';
