/**
 * Swaps between both lock daemons for arm64, and SIGUSR1, in a copy of the tree: the programs by QEMU's user mode, on this machine's kernel.
 * virtlockd-swap knows a daemon by its program, which is QEMU here. So the steps swap by hand, as docs/operations/live-swap.md has it.
 */
import { copyFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { Daemon } from '../../../src/lab/daemon.ts';
import { setPatience } from '../../../src/lab/patience.ts';
import { Lab } from '../../../src/lab/root.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { commandLineOf } from '../../../src/proc/processes.ts';
import type { Fact } from './facts.ts';
import { withForeignPrograms } from './foreign.ts';
import { Scene } from './inside/scene.ts';
import { armTree } from './package.ts';

const OWN = '/usr/lib/virtlockd-node/bin/node';
/** Libvirt's program, where dpkg diverts it to. */
const DIVERTED = `${PROGRAM}.libvirt`;
/** How many times as long as natively a daemon may take. */
const PATIENCE = 20;

/** QEMU's own words come first. */
const programOf = (pid: number): string => commandLineOf(pid)[1]?.replace(/\/bin\/\.\.\//, '/') ?? '';

/** @throws Error when no copy of the tree can be made, or the first daemon does not start */
export async function playInUserMode(packaged: string, onFact: (fact: Fact) => void): Promise<Fact[]> {
  return withForeignPrograms(async () => playSteps(packaged, onFact));
}

async function playSteps(packaged: string, onFact: (fact: Fact) => void): Promise<Fact[]> {
  const facts: Fact[] = [];
  setPatience(PATIENCE);
  const lab = await Lab.open({ tree: armTree, offline: true });
  try {
    const daemon = Daemon.launch(lab, [PROGRAM]);
    await daemon.accepts(PROGRAM);
    const { pid } = daemon;
    const scene = new Scene({
      directory: lab.directory,
      connect: async () => daemon.connect(),
      programOf,
      write: (fact) => {
        facts.push(fact);
        onFact(fact);
      },
    });
    const run = async (program: string, ...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await lab.run(program, args, { env: { DEBIAN_FRONTEND: 'noninteractive' } });
      const text = `${stdout}${stderr}`.trim();
      scene.say(`# ${[program, ...args].join(' ')}\n${text}`);
      if (code !== 0) throw new Error(`${program}: ${text}`);
      return text;
    };
    await scene.play(
      {
        "libvirt's daemon is at work": async () => {
          const machine = await run('uname', '-m');
          scene.check('the programs are for arm64', machine === 'aarch64', machine);
          await scene.hold(pid);
          await scene.assertServes(pid, PROGRAM);
        },
        'the package is installed beside it': async () => {
          copyFileSync(packaged, join(lab.directory, 'package.deb'));
          await run('dpkg', '--install', join(lab.directory, 'package.deb'));
          await scene.assertServes(pid, PROGRAM);
        },
        "SIGUSR1: libvirt's daemon executes this one": async () => {
          await scene.reexecute(pid);
          await scene.assertServes(pid, OWN);
          const who = await run('virt-lockctl', 'who', scene.disk);
          scene.check('virt-lockctl names the holder', who.includes('stand-in'), who);
        },
        'SIGUSR1, three times': async () => {
          for (let round = 0; round < 3; round++) {
            await scene.reexecute(pid);
            await scene.assertServes(pid, OWN);
          }
        },
        "SIGUSR1: this daemon executes libvirt's": async () => {
          lab.install(DIVERTED);
          await scene.reexecute(pid);
          await scene.assertServes(pid, PROGRAM);
        },
        'SIGUSR1: and back': async () => {
          lab.install(join('/usr/lib/virtlockd-node/bin', 'virtlockd'));
          await scene.reexecute(pid);
          await scene.assertServes(pid, OWN);
        },
      },
      ['python3', join(checkout, 'test/campaigns/nfs/inside/rival.py')],
      `Linux ${release()} under QEMU's user mode`,
    );
    scene.say(daemon.log);
    return facts;
  } finally {
    await lab.close();
    setPatience(1);
  }
}
