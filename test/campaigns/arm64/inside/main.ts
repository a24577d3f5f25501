/** The steps in the virtual machine, as root of a booted Debian 12. Facts go to the virtual port of that name. */
import { openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { lockedInodesOf } from './locks.ts';
import { eventually, programImage, Running } from '../../../../src/lab/process.ts';
import { autocreate, lock, Peer } from '../../../../src/lab/wire.ts';
import { programOf } from '../../../../src/proc/processes.ts';
import type { Fact } from '../facts.ts';

/** Emulation makes everything some twenty times slower. */
const PATIENCE = 120_000;
/** The longest text of a fact. */
const MAX_TEXT = 4000;
const PACKAGE = '/checkout/package.deb';
const OWN = '/usr/lib/virtlockd-node/bin/node';
const LIBVIRT = '/usr/sbin/virtlockd';
const IMAGE = '/root/image';
const LEASES = '/root/leases';
const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };

const port = openSync('/dev/virtio-ports/facts', 'w');
let step = '';

function write(fact: Fact): void {
  writeSync(port, `${JSON.stringify(fact)}\n`);
}

function check(what: string, ok: boolean, detail: unknown = ''): void {
  write({ is: 'checked', step, what, ok, detail: String(detail).slice(-MAX_TEXT) });
}

/** Runs a command. Returns its output, of both streams. */
async function run(...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await Running.start(words, { env }, {}).exited;
  const text = `${stdout}${stderr}`.trim();
  write({ is: 'said', step, text: `# ${words.join(' ')}\n${text}`.slice(-MAX_TEXT) });
  if (code !== 0) throw new Error(`${words.join(' ')}: ${text}`);
  return text;
}

async function property(name: string): Promise<string> {
  return run('systemctl', 'show', '--value', `--property=${name}`, 'virtlockd.service');
}

const mainPid = async (): Promise<number> => Number(await property('MainPID'));

const connect = async (): Promise<Peer> => Peer.connect('/run/libvirt/virtlockd-sock');

/** The first owner's connection, from before everything, and what it holds. */
let holder: Peer;
let held: string[] = [];

async function assertServes(pid: number, program: string): Promise<void> {
  check('the main process is the same', (await mainPid()) === pid);
  check(`it runs ${program}`, programOf(pid) === program, programOf(pid));
  const now = lockedInodesOf(pid);
  check('it has every lock', now.join() === held.join(), `${now.join()} for ${held.join()}`);
  writeFileSync('/root/other', '');
  await holder.must(lock.acquire('', '/root/other'));
  await holder.must(lock.release('', '/root/other'));
  const other = await connect();
  await other.must(lock.register({ pid: 5_000_001, name: 'other' }));
  const refusal = await other.ask(lock.acquire('', IMAGE));
  check('another owner is refused', refusal?.code === 87, refusal?.message);
  other.close();
}

async function executed(pid: number, before: string): Promise<void> {
  await eventually('it has executed a program', () => programImage(pid) !== before, PATIENCE);
  await eventually('it serves', async () => connect().then((peer) => (peer.close(), true)), PATIENCE);
  // An answer of the new program.
  const peer = await connect();
  await peer.must(lock.register({ pid: 5_000_002, name: 'newcomer' }));
  peer.close();
}

const STEPS: Readonly<Record<string, () => Promise<void>>> = {
  "libvirt's daemon is at work": async () => {
    check('the machine is arm64', process.arch === 'arm64', process.arch);
    await run('systemctl', 'start', 'virtlockd.service');
    holder = await connect();
    await holder.must(lock.register({ pid: 5_000_000, name: 'stand-in' }));
    writeFileSync(IMAGE, '');
    await holder.must(lock.acquire('', IMAGE));
    await holder.must(lock.createLockspace(LEASES));
    await holder.must(lock.acquire(LEASES, 'lease', autocreate));
    const pid = await mainPid();
    held = lockedInodesOf(pid);
    check('it has the two locks and its pid file', held.length === 3, held.join());
    await assertServes(pid, LIBVIRT);
  },
  'the package is installed under it': async () => {
    const pid = await mainPid();
    const said = await run('dpkg', '--install', PACKAGE);
    check('it says so', said.includes(`process ${pid}: goes on in /usr/sbin/virtlockd, with 2 locks`), said);
    await eventually('it answers', async () => (await run('virt-lockctl', 'status')).includes(String(pid)), PATIENCE);
    await assertServes(pid, OWN);
    await run('/usr/sbin/virtlockd', '--version');
    await run('virt-lockctl', 'who', IMAGE);
  },
  'SIGUSR1, three times': async () => {
    const pid = await mainPid();
    for (let round = 0; round < 3; round++) {
      const before = programImage(pid);
      process.kill(pid, 'SIGUSR1');
      await executed(pid, before);
      await assertServes(pid, OWN);
    }
  },
  'it dies': async () => {
    await eventually(
      'the locks would outlive it',
      async () => (await run('virt-lockctl', 'status')).includes('would cost no lock'),
      PATIENCE,
    );
    const pid = await mainPid();
    process.kill(pid, 'SIGKILL');
    const next = await eventually(
      'another process serves',
      async () => {
        const now = await mainPid();
        return now !== 0 && now !== pid && (await property('SubState')) === 'running' && now;
      },
      PATIENCE,
    );
    await assertServes(next, OWN);
  },
  'systemctl restart of service and sockets': async () => {
    const pid = await mainPid();
    await run('systemctl', 'restart', 'virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket');
    const next = await mainPid();
    check('it is another process', next !== pid);
    await assertServes(next, OWN);
  },
  'the package is removed': async () => {
    const pid = await mainPid();
    await run('dpkg', '--purge', 'virtlockd-node');
    await assertServes(pid, LIBVIRT);
  },
};

async function main(): Promise<void> {
  let rival: Running | undefined;
  for (const [name, play] of Object.entries(STEPS)) {
    step = name;
    write({ is: 'begun', step });
    await play();
    if (rival === undefined) {
      const words = ['python3', '/checkout/test/campaigns/nfs/inside/rival.py', 'look', IMAGE, `${LEASES}/lease`];
      rival = Running.start(words, { env }, {});
      const started = rival;
      await eventually('the rival asks', () => started.output !== '', PATIENCE);
    }
  }
  const lines = ((await rival?.stop('SIGTERM', PATIENCE))?.stdout ?? '').trim().split('\n');
  let asked = 0;
  for (const line of lines) {
    const found = JSON.parse(line) as { file?: string; ms?: number; asked?: number };
    if (found.file !== undefined) write({ is: 'free', file: found.file, ms: found.ms ?? 0 });
    asked = found.asked ?? asked;
  }
  write({ is: 'done', kernel: `${release()} ${readFileSync('/etc/debian_version', 'latin1').trim()}`, asked });
}

try {
  await main();
} catch (error) {
  write({ is: 'broken', step, error: error instanceof Error ? (error.stack ?? error.message) : 'no error' });
}
process.exit();
