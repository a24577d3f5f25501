/** The start of children where the kernel, or what stands in for it, knows less, and how long they may take. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChild } from '../../../src/posix/child.ts';
import { missingStrace } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';

/** Prints how a child ended, and how many descriptors it had beside those that it is to have. */
const SCRIPT = `
import { openSync } from 'node:fs';
import { runChildAtOnce } from './src/posix/child.ts';
openSync('/dev/null');
const { end, output } = runChildAtOnce({ file: '/bin/ls', args: ['/proc/self/fd'], limit: 10_000 });
console.log(end, output.trim().split('\\n').length);
`;

/** Starts a child, and executes another program at once, which prints how many locks this process has. */
const EXECUTES = `
import { openSync } from 'node:fs';
import { startChild, Stream } from './src/posix/child.ts';
import { LockType, posix } from './src/posix/posix.ts';
import { setCloseOnExec } from './src/restart/close-on-exec.ts';
const fd = openSync(process.env.LOCKED, 'r+');
posix.setlk(fd, LockType.WRITE, 0, 1);
setCloseOnExec([1, 2, fd], false);
const { NULL } = Stream;
startChild({ file: '/bin/true', args: [] }, [NULL, NULL, NULL, Stream.NONE], () => undefined);
const script = 'sleep 0.5; grep -c "POSIX .* $$ " /proc/locks';
console.log(posix.execve(['/bin/sh'], ['sh', '-c', script], ['PATH=/usr/bin:/bin'], false));
`;

describe('a child', () => {
  /** Runs a script while strace does something to system calls of it and of its children. */
  function runWith(injections: Record<string, string>, script: string, variables: NodeJS.ProcessEnv = {}): string {
    const words = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${Object.keys(injections).join()}`];
    for (const [call, injection] of Object.entries(injections)) words.push('-e', `inject=${call}:${injection}`);
    const node = [process.execPath, '--input-type=module', '--eval', script];
    const env = { ...process.env, ...variables };
    const { stdout, stderr } = spawnSync('strace', [...words, ...node], { cwd: checkout, encoding: 'utf8', env });
    return `${stdout}${stderr}`;
  }

  /** @param error of clone, the first time */
  const run = (error: string): string => runWith({ clone: `error=${error}:when=1` }, SCRIPT);

  before(function () {
    skipIf(this, missingStrace());
  });

  it('is started without sharing the descriptors where that is not known, as under QEMU, and gets none of them', () => {
    // Its standard streams, and the directory that it reads.
    assert.equal(run('EINVAL'), 'exited with 0 4\n');
  });

  it('is started so, too, where it would not be known whether it still shares them', () => {
    assert.equal(runWith({ kcmp: 'error=EPERM' }, SCRIPT), 'exited with 0 4\n');
  });

  it('is not started when there is no memory', () => {
    assert.match(run('ENOMEM'), /SpawnError: ENOMEM: Cannot allocate memory/);
  });

  describe('of a process that executes another program', () => {
    // As on a busy machine: the child comes late to what separates its descriptors.
    const late = { close_range: 'delay_enter=300ms' };
    /** How many locks the process has under the next program. */
    function locksAfter(injections: Record<string, string>): string {
      const directory = mkdtempSync(join(tmpdir(), 'virtlockd-child-'));
      const file = join(directory, 'disk');
      writeFileSync(file, 'x');
      try {
        return runWith(injections, EXECUTES, { LOCKED: file });
      } finally {
        rmSync(directory, { recursive: true });
      }
    }

    it('does not share its descriptors then: its locks would end with the child', () => {
      assert.equal(locksAfter(late), '1\n');
    });

    it('has never shared them where that would not be known', () => {
      assert.equal(locksAfter({ ...late, kcmp: 'error=EPERM' }), '1\n');
    });
  });
});

describe('the time of a child', () => {
  const LIMIT = 100;
  const LOOKS = 10;
  /** What a child at work uses from look to look at least, if it is at work at each. */
  const WORK = 1;

  /** Runs one that sleeps. `timeAt`: its processor time at each look, from the first on. Returns its end, and the number of looks. */
  async function end(timeAt: (look: number) => number, longest: number, seconds = 30): Promise<[string, number]> {
    let looks = 0;
    const atWork = { longest, processorTimeOf: (): number => timeAt(++looks) };
    const { end } = await runChild({ file: 'sleep', args: [String(seconds)], limit: LIMIT, atWork });
    return [end, looks];
  }

  it('is over with its limit', async () => {
    const { end, status } = await runChild({ file: 'sleep', args: ['30'], limit: LIMIT });
    assert.deepEqual([end, status], ['took longer than 0.1 s', null]);
  });

  it('is over when it has done nothing for so long, from its start or later', async () => {
    assert.deepEqual(await end(() => 0, 60_000), ['did nothing for 0.1 s', LOOKS]);
    assert.deepEqual(await end((look) => Math.min(look, 7) * WORK, 60_000), ['did nothing for 0.1 s', 7 + LOOKS]);
    // As where /proc cannot be read any more.
    assert.deepEqual(await end((look) => (look <= 3 ? look : NaN), 60_000), ['did nothing for 0.1 s', 3 + LOOKS]);
  });

  it('is not over while it is at work, be it a little', async () => {
    assert.equal((await end((look) => look * WORK, 60_000, 0.5))[0], 'exited with 0');
    assert.equal((await end((look) => Math.floor(look / (LOOKS - 1)) * WORK, 60_000, 0.5))[0], 'exited with 0');
    assert.equal((await end((look) => (look * WORK) / (LOOKS - 1), 60_000, 0.5))[0], 'exited with 0');
  });

  it('is over when what it does is too little for work', async () => {
    assert.deepEqual(await end((look) => (look * WORK) / (LOOKS + 1), 60_000), ['did nothing for 0.1 s', LOOKS]);
  });

  it('is over in the end, whatever it does', async () => {
    assert.equal((await end((look) => look * WORK, 300))[0], 'took longer than 0.3 s');
    assert.equal((await end((look) => look * WORK, 0))[0], 'took longer than 0 s');
  });
});
