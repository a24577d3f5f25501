/** SIGUSR1 while the installation is not of one build, as in the middle of an upgrade or on a damaged disk. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { startDaemon } from '../../../src/lab/start.ts';
import { bitsOf, flipped, FS_EXT, Installation } from '../../support/installation.ts';
import { eventually, programImage } from '../../../src/lab/process.ts';
import { missingDaemon, missingStrace } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { autocreate, lock, shared } from '../../../src/lab/wire.ts';
import { temporaryDirectory } from '../../unit/support/locks.ts';
import { AtPath, NOBODY } from './at-path.ts';

const SCRIPT = 'dist/virtlockd.cjs';
const CACHE = 'dist/virtlockd.cache';
const ADDON = 'dist/posix.node';

describe('a re-execution into what is not of one build', function () {
  this.timeout(120_000);
  let at: AtPath;
  let installed: Installation;
  let directory: ReturnType<typeof temporaryDirectory>;

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'));
    directory = temporaryDirectory();
    at = await AtPath.open();
    installed = new Installation(at.lab.outside('/opt/virtlockd'));
    at.install('/opt/virtlockd/bin/virtlockd');
  });

  afterEach(async () => {
    await (at as AtPath | undefined)?.close();
    (directory as typeof directory | undefined)?.remove();
  });

  const complaints = (): number => at.daemon.log.split('\n').filter((line) => line.includes('Damaged')).length;

  it('is refused for a code cache with a flipped bit, and done once it is whole', async () => {
    const cache = installed.read(CACHE);
    for (const bit of bitsOf(cache.length, 6, 14)) {
      installed.replace(CACHE, flipped(cache, bit));
      await at.refused(/virtlockd cannot go on: dist\/virtlockd\.cache is not of build [0-9a-f]{16}/);
    }
    installed.repair(CACHE);
    await at.executedAgain();
    await at.executedAgain();
    assert.equal(complaints(), 0);
  });

  it('is refused for a code cache that is cut off, empty, of another program, or missing', async () => {
    const cache = installed.read(CACHE);
    for (const bytes of [cache.subarray(0, 1000), Buffer.alloc(0), installed.read('dist/virtlockd-trace.cache')]) {
      installed.replace(CACHE, bytes);
      await at.refused(/dist\/virtlockd\.cache is not of build/);
    }
    rmSync(installed.path(CACHE));
    await at.refused(/dist\/virtlockd\.cache of build \S+ cannot be read/);
  });

  it('is refused for a script of the same length that is another one', async () => {
    const script = installed.read(SCRIPT).toString('latin1');
    installed.replace(SCRIPT, Buffer.from(script.replace('Resumed with', 'RESUMED WITH'), 'latin1'));
    await at.refused(/dist\/virtlockd\.cjs is not of build/);
  });

  it('is refused for an addon of another build, which would load', async () => {
    const addon = installed.read(ADDON);
    // Another name for a function that is needed only when a client calls.
    installed.replace(ADDON, Buffer.from(addon.toString('latin1').replace('\0lockNamed\0', '\0lockNumed\0'), 'latin1'));
    assert.notDeepEqual(installed.read(ADDON), addon);
    await at.refused(/dist\/posix\.node is not of build/);
    installed.replace(ADDON, installed.read('dist/relay.node'));
    await at.refused(/dist\/posix\.node is not of build/);
    rmSync(installed.path(ADDON));
    await at.refused(/dist\/posix\.node of build \S+ cannot be read/);
  });

  it('is refused for an fs-ext that is another one or missing', async () => {
    installed.replace(FS_EXT, installed.read('dist/relay.node'));
    await at.refused(/fs_ext\.node is not of build/);
    rmSync(installed.path(FS_EXT));
    await at.refused(/fs_ext\.node of build \S+ cannot be read/);
    rmSync(installed.path('node_modules/fs-ext'), { recursive: true });
    await at.refused(/fs-ext\/\S+ of build \S+ cannot be read/);
  });

  it('is refused at every step of an upgrade that replaces one file after the other', async () => {
    const newer = new Installation(join(directory.path, 'newer'));
    const parts = ['dist/start.cjs', 'dist/virtlockd-trace.cjs', SCRIPT, 'node_modules/fs-ext/fs-ext.js'];
    for (const part of parts) newer.replace(part, Buffer.concat([newer.read(part), Buffer.from('\n')]));
    // V8 made the cache of a script of another length.
    rmSync(newer.path(CACHE));
    newer.rebuild();
    for (const part of parts) {
      installed.replace(part, newer.read(part));
      await at.refused(/is not of build/);
    }
    installed.replace('dist/build.json', newer.read('dist/build.json'));
    await at.executedAgain();
    assert.equal(complaints(), 0);
  });

  it('is refused when a part is replaced after it was proven, by a child that inherits no descriptor', async () => {
    const script = [
      '#!/bin/sh',
      'ls -l /proc/self/fd >/opt/descriptors',
      '/opt/virtlockd/bin/virtlockd "$@" || exit $?',
      'cp -p /opt/virtlockd/dist/posix.node /opt/virtlockd/dist/new && mv /opt/virtlockd/dist/new /opt/virtlockd/dist/posix.node',
    ];
    const wrapper = at.lab.outside('/opt/wrapper');
    writeFileSync(wrapper, `${script.join('\n')}\n`);
    chmodSync(wrapper, 0o755);
    at.install('/opt/wrapper');
    await at.refused(/dist\/posix\.node has changed since it was proven/);
    const inherited = readFileSync(at.lab.outside('/opt/descriptors'), 'latin1').trim().split('\n');
    assert.ok(inherited.some((line) => line.includes(' 1 -> ')));
    // Its standard output is one that the daemon reads.
    assert.deepEqual(
      inherited.filter(
        (line) => /socket:|eventpoll|\/held|pidfd|virtlockd\.pid/.test(line) && !line.includes(' 1 -> '),
      ),
      [],
    );
  });

  it('starts afresh without a code cache that is damaged, says so once, and serves', async () => {
    installed.replace(CACHE, flipped(installed.read(CACHE), 100_000));
    await at.daemon.stop();
    const daemon = await startDaemon('ours', { lab: at.lab, program: PROGRAM });
    try {
      assert.match(daemon.log, /error : .*Damaged installation: dist\/virtlockd\.cache is not of build/);
      assert.equal(daemon.log.split('Damaged').length, 2);
      const peer = await daemon.connect();
      await peer.must(lock.register({ pid: NOBODY, name: 'peer' }));
      await peer.must(lock.acquire('', at.name, autocreate));
    } finally {
      await daemon.stop();
    }
  });

  it('has a proof that makes no call that touches anything', async function () {
    skipIf(this, missingStrace());
    const { daemon } = at;
    const other = await daemon.connect();
    await other.must(lock.register({ pid: NOBODY + 2, name: 'other' }));
    await other.must(lock.acquire('', at.name.replace(/held$/, 'shared'), autocreate | shared));
    const trace = join(at.lab.outside('/opt'), 'trace');
    const strace = spawn('strace', ['-f', '-yy', '-o', trace, '-p', String(daemon.pid)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await once(strace.stderr, 'data');
    const image = programImage(daemon.pid);
    process.kill(daemon.pid, 'SIGUSR1');
    await eventually('the program is executed', () => programImage(daemon.pid) !== image, 60_000);
    strace.kill('SIGINT');
    await once(strace, 'exit');
    const calls = readFileSync(trace, 'latin1').split('\n');
    const child = /^(\d+) +execve\(.*"--check-state"/m.exec(calls.join('\n'))?.[1];
    assert.ok(child !== undefined);
    const its = calls.filter((line) => line.startsWith(`${child} `)).map((line) => line.slice(child.length).trim());
    assert.ok(
      its.some((line) => /^newfstatat\(.*"\/proc\/\d+\/fd\/\d+"|^statx\(.*"\/proc\/\d+\/fd\/\d+"/.test(line)),
      'it looks',
    );
    const touching =
      /^(fcntl\(.*F_(OFD_)?(SETLK|SETLKW|GETLK|SETFL)|unlink|rename|link|mkdir|k(ill)\(|tkill|tgkill|pidfd_|accept|shutdown|recv|send|connect|bind|listen|socket\(|ftruncate|fallocate|flock)/;
    assert.deepEqual(
      its.filter((line) => touching.test(line)),
      [],
    );
    const files = [...daemon.locks()].map(({ inode }) => inode);
    assert.ok(files.length >= 2);
    assert.deepEqual(
      its.filter((line) => /^(read|write|pread64|close|dup\w*)\(\d+<\S*\/(held|shared)>/.test(line)),
      [],
    );
  });
});
