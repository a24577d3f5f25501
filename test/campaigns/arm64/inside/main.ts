/** The steps in the virtual machine, as root of a booted Debian 12. Facts go to the virtual port of that name. */
import { openSync, readFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { eventually, Running } from '../../../../src/lab/process.ts';
import { Peer } from '../../../../src/lab/wire.ts';
import { programOf } from '../../../../src/proc/processes.ts';
import { PATIENCE, Scene } from './scene.ts';

const PACKAGE = '/checkout/package.deb';
const OWN = '/usr/lib/virtlockd-node/bin/node';
const LIBVIRT = '/usr/sbin/virtlockd';
const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };

const port = openSync('/dev/virtio-ports/facts', 'w');
const scene = new Scene({
  directory: '/root',
  connect: async () => Peer.connect('/run/libvirt/virtlockd-sock'),
  programOf,
  write: (fact) => {
    writeSync(port, `${JSON.stringify(fact)}\n`);
  },
});

/** Runs a command. Returns its output, of both streams. */
async function run(...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await Running.start(words, { env }, {}).exited;
  const text = `${stdout}${stderr}`.trim();
  scene.say(`# ${words.join(' ')}\n${text}`);
  if (code !== 0) throw new Error(`${words.join(' ')}: ${text}`);
  return text;
}

async function property(name: string): Promise<string> {
  return run('systemctl', 'show', '--value', `--property=${name}`, 'virtlockd.service');
}

const mainPid = async (): Promise<number> => Number(await property('MainPID'));

/** @param pid of the main process of the service */
async function assertServes(pid: number, program: string): Promise<void> {
  scene.check('the main process is the same', (await mainPid()) === pid);
  await scene.assertServes(pid, program);
}

await scene.play(
  {
    "libvirt's daemon is at work": async () => {
      scene.check('the machine is arm64', process.arch === 'arm64', process.arch);
      await run('systemctl', 'start', 'virtlockd.service');
      const pid = await mainPid();
      await scene.hold(pid);
      await assertServes(pid, LIBVIRT);
    },
    'the package is installed under it': async () => {
      const pid = await mainPid();
      const said = await run('dpkg', '--install', PACKAGE);
      scene.check('it says so', said.includes(`process ${pid}: goes on in /usr/sbin/virtlockd, with 2 locks`), said);
      await eventually('it answers', async () => (await run('virt-lockctl', 'status')).includes(String(pid)), PATIENCE);
      await assertServes(pid, OWN);
      await run('/usr/sbin/virtlockd', '--version');
      await run('virt-lockctl', 'who', scene.disk);
    },
    'SIGUSR1, three times': async () => {
      const pid = await mainPid();
      for (let round = 0; round < 3; round++) {
        await scene.reexecute(pid);
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
      scene.check('it is another process', next !== pid);
      await assertServes(next, OWN);
    },
    'the package is removed': async () => {
      const pid = await mainPid();
      await run('dpkg', '--purge', 'virtlockd-node');
      await assertServes(pid, LIBVIRT);
    },
  },
  ['python3', '/checkout/test/campaigns/nfs/inside/rival.py'],
  `Linux ${release()}, Debian ${readFileSync('/etc/debian_version', 'latin1').trim()}`,
);
// Why it has refused, if it has.
await run('journalctl', '--no-pager', '--unit', 'virtlockd.service', '--lines', '30', '--output', 'cat');
process.exit();
