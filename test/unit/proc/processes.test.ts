import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import path from 'node:path';
import {
  catchesSignal,
  commandLineOf,
  environmentOf,
  imageOf,
  isGone,
  isThere,
  mappedFilesOf,
  nameOf,
  parseStat,
  processes,
  processorTimeOf,
  programOf,
  residentMemoryOf,
  sharesMounts,
  startOf,
  statOf,
  statusOf,
  unlessGone,
  workingDirectoryOf,
} from '../../../src/proc/processes.ts';
import { startTimeOf } from '../../../src/proc/identity.ts';
import { skipIf } from '../../support/skip.ts';
import { temporaryDirectory } from '../support/locks.ts';

/** Above the largest pid of Linux. */
const NOBODY = 4_200_000;

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

describe('a process in /proc', () => {
  it('is this one', () => {
    assert.equal(startTimeOf(process.pid), statOf(process.pid).startTime);
    assert.ok(processes().includes(process.pid));
    assert.equal(isThere(process.pid), true);
    assert.deepEqual(commandLineOf('self'), commandLineOf(process.pid));
    assert.ok(commandLineOf('self').length >= 2);
    assert.ok(environmentOf('self').some((entry) => entry.startsWith('PATH=')));
    assert.equal(workingDirectoryOf('self'), process.cwd());
    assert.equal(programOf('self'), process.execPath);
    assert.ok(mappedFilesOf('self').includes(process.execPath));
    assert.equal(statusOf('self', 'Pid'), String(process.pid));
    assert.equal(statusOf('self', 'NoSuchField'), undefined);
    assert.ok(residentMemoryOf('self') > 1024 * 1024);
    const { user, system } = process.cpuUsage();
    assert.ok(Math.abs(processorTimeOf('self') - (user + system) / 1000) < 1000);
    assert.equal(catchesSignal('self', 'SIGKILL'), false);
    assert.equal(typeof imageOf(process.pid), 'string');
  });

  it('has a name that may hold anything', () => {
    const numbers = Array.from({ length: 49 }, (_, index) => index + 4).join(' ');
    assert.deepEqual(parseStat(`7 (a) S 1 (b c)) R ${numbers}\n`), {
      state: 'R',
      startTime: 22,
      processorTime: 14 + 15,
    });
  });

  it('has one with blanks and parentheses, and the same start for both readers', async () => {
    const directory = temporaryDirectory();
    const file = path.join(directory.path, 'a) S (b');
    copyFileSync('/bin/sleep', file);
    const child = spawn(file, ['1000'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    try {
      assert.equal(nameOf(pid), 'a) S (b');
      assert.match(statOf(pid).state, /^[RSD]$/);
      assert.equal(statOf(pid).startTime, startTimeOf(pid));
      assert.ok(Math.abs(startOf(statOf(pid).startTime) - Date.now()) < 5000);
    } finally {
      child.kill();
      await once(child, 'exit');
      directory.remove();
    }
    assert.equal(isThere(pid), false);
    assert.equal(imageOf(pid), undefined);
  });

  it('is gone when there is none of that number', () => {
    assert.equal(isThere(NOBODY), false);
    assert.equal(imageOf(NOBODY), undefined);
    assert.equal(startTimeOf(NOBODY), null);
    assert.deepEqual([sharesMounts(process.pid), sharesMounts(NOBODY)], [true, undefined]);
    assert.throws(() => commandLineOf(NOBODY), isGone);
  });

  it('is not said to be there where nothing of it can be read', function () {
    skipIf(this, process.geteuid?.() === 0 ? undefined : 'needs root');
    // Such a /proc shows the directories of processes that the reader may not trace, but no file in them.
    const script =
      'mount -t proc -o hidepid=1 proc /proc && exec setpriv --regid=65534 --clear-groups --bounding-set=-sys_ptrace "$@"';
    const url = new URL('../../../src/proc/processes.ts', import.meta.url).href;
    const ask = `import('${url}').then(({ isThere }) => console.log(isThere(1), isThere(process.pid), isThere(${NOBODY})))`;
    const words = ['--mount', 'sh', '-c', script, 'sh', process.execPath, ...process.execArgv, '-e', ask];
    assert.equal(execFileSync('unshare', words, { encoding: 'utf8' }), 'undefined true false\n');
  });

  it('is not gone because it cannot be read', () => {
    const failing = (code: string) => (): string => {
      throw failure(code);
    };
    for (const code of ['ENOENT', 'ESRCH']) assert.equal(unlessGone(failing(code)), undefined);
    for (const code of ['EACCES', 'EMFILE', 'ENFILE', 'EPERM']) {
      assert.throws(() => unlessGone(failing(code)), { code });
    }
  });
});
