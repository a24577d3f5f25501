/** Directories of lockspaces that cannot be made: what is answered, and what stays behind, as with the C daemon. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { startDaemon } from '../../../src/lab/start.ts';
import type { DaemonKind } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { ordinaryUser } from '../../../src/lab/root.ts';

/** Longer than a path may be, and a component longer than a name may be. */
const DEEP = '/a'.repeat(3000);
const LONG = `/${'n'.repeat(300)}`;

const PATHS = [
  `/var/new${DEEP}`,
  `/tmp/new${DEEP}`,
  `/none${DEEP}`,
  `/var/new${LONG}`,
  `/tmp/two/three${LONG}/four`,
  `${ordinaryUser.runtime}/own${DEEP}`,
  '/proc/none/here',
  '/etc/passwd/here',
  '/tmp//many///slashes//',
  '/tmp/loop',
  '/tmp/loop/below',
  '/tmp/dangling',
  '/tmp/dangling/below',
];

/** Answers to making each lockspace in turn, and the directories that are there then. */
async function outcomes(kind: DaemonKind, ordinary: boolean, configuration = ''): Promise<readonly string[]> {
  const daemon = await startDaemon(kind, { ordinary, configuration });
  try {
    await daemon.lab.run('/bin/ln', ['-s', 'loop', '/tmp/loop']);
    await daemon.lab.run('/bin/ln', ['-s', 'nowhere', '/tmp/dangling']);
    const as = ordinary ? { ordinary } : {};
    const answers: string[] = [];
    for (const directory of PATHS) {
      const socket = ordinary ? path.join(ordinaryUser.runtime, 'libvirt') : '/run/libvirt';
      const create = ['--connect', socket, 'lockspace', 'create', directory];
      const { code, stderr } = await daemon.lab.run(path.join(checkout, 'bin/virt-lockctl'), create, as);
      answers.push(`${directory.slice(0, 30)}: ${code} ${stderr.slice(-60)}`);
    }
    // How many directories there are below each of these, by mode and owner.
    for (const made of ['/var/new', '/tmp/new', '/none', '/tmp/two', '/tmp/many', `${ordinaryUser.runtime}/own`]) {
      const count = `find ${made} -printf '%m %U\\n' | sort | uniq -c`;
      answers.push(`${made}: ${(await daemon.lab.run('/bin/sh', ['-c', count])).stdout.trim()}`);
    }
    return answers;
  } finally {
    await daemon.stop();
  }
}

describe('directories of lockspaces', function () {
  this.timeout(60_000);

  for (const kind of ['7.0.0', '9.0.0', '11.3.0', '12.8.0'] as const) {
    for (const ordinary of [false, true]) {
      it(`fail and stay as with C ${kind}, ${ordinary ? 'for an ordinary user' : 'for root'}`, async function () {
        skipIf(this, missingDaemon(kind));
        skipIf(this, missingDaemon('ours'));
        const ours = await outcomes('ours', ordinary, `libvirt_version = "${kind}"\n`);
        assert.deepEqual(ours, await outcomes(kind, ordinary));
      });
    }
  }
});
