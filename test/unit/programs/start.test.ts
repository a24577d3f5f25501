/** The start script: it ignores a code cache that is not of the build, and every start works. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { bitsOf, flipped, FS_EXT, Installation } from '../../support/installation.ts';
import { EMPTY_STATE } from '../../../src/restart/empty-state.ts';
import { temporaryDirectory } from '../support/locks.ts';

const SCRIPT = 'dist/virtlockd.cjs';
const CACHE = 'dist/virtlockd.cache';
const VERSION = /^virtlockd \(libvirt\) \d+\.\d+\.\d+\n$/;

describe('the start script', function () {
  this.timeout(60_000);
  let directory: ReturnType<typeof temporaryDirectory>;
  let installed: Installation;

  beforeEach(() => {
    directory = temporaryDirectory();
    installed = new Installation(path.join(directory.path, 'root'));
  });
  afterEach(() => {
    directory.remove();
  });

  interface Said {
    readonly status: number | null;
    readonly stdout: string;
    readonly stderr: string;
  }

  function run(program: string, ...args: readonly string[]): Said {
    const { status, stdout, stderr } = spawnSync(installed.path(program), args, { encoding: 'utf8', timeout: 20_000 });
    return { status, stdout, stderr };
  }

  /** Starts, and runs the functions of the bundle. */
  function assertRuns(what: string): void {
    const { status, stdout, stderr } = run('bin/virtlockd', '--version');
    assert.equal(status, 0, `${what}: ${stderr}`);
    assert.match(stdout.replace(/^\S+/, 'virtlockd'), VERSION, what);
  }

  /** The output of a proof. */
  function proof(): Said {
    const state = path.join(directory.path, 'state');
    writeFileSync(state, JSON.stringify(EMPTY_STATE));
    return run('bin/virtlockd', '--check-state', state);
  }

  function assertRefused(reason: RegExp): void {
    const { status, stdout } = proof();
    assert.equal(status, 3, stdout);
    assert.match(stdout, /^virtlockd state document check 1\n/);
    assert.match(stdout, reason);
  }

  it('has the daemon load no module for the time or for a turn of the loop', () => {
    assert.doesNotMatch(installed.read(SCRIPT).toString(), /\bperformance\.|perf_hooks|timers\/promises/);
  });

  it('takes the build as it was made', () => {
    assertRuns('as made');
    const { status, stdout } = proof();
    assert.equal(status, 0, stdout);
    assert.match(stdout, /^virtlockd state document check 1\n\["/);
  });

  it('runs the script, and not what a cache says of another one of equal length', () => {
    const script = installed.read(SCRIPT).toString('latin1');
    const changed = script.replace('Check a restart document', 'CHECK A RESTART DOCUMENT');
    assert.notEqual(changed, script);
    installed.replace(SCRIPT, Buffer.from(changed, 'latin1'));
    assert.match(run('bin/virtlockd', '--help').stderr, /CHECK A RESTART DOCUMENT/);
    assertRefused(/dist\/virtlockd\.cjs is not of build [0-9a-f]{16}/);
  });

  it('runs without a cache that has a bit flipped', () => {
    const cache = installed.read(CACHE);
    // V8's own header, what follows, and anywhere.
    const first = Array.from({ length: 8 }, (_, index) => index * 37);
    for (const bit of [...first, ...bitsOf(cache.length, 24, 7)]) {
      installed.replace(CACHE, flipped(cache, bit));
      assertRuns(`bit ${bit} flipped`);
    }
    assertRefused(/dist\/virtlockd\.cache is not of build/);
  });

  it('runs without a cache that is empty, cut off, too long, of another script, unreadable or missing', () => {
    const cache = installed.read(CACHE);
    const others = {
      empty: Buffer.alloc(0),
      'cut off': cache.subarray(0, cache.length >> 1),
      'its header alone': cache.subarray(0, 64),
      'too long': Buffer.concat([cache, Buffer.alloc(8)]),
      zeroes: Buffer.alloc(cache.length),
      'of another script': installed.read('dist/virtlockd-trace.cache'),
    };
    for (const [what, bytes] of Object.entries(others)) {
      installed.replace(CACHE, bytes);
      assertRuns(what);
      assertRefused(/dist\/virtlockd\.cache is not of build/);
    }
    rmSync(installed.path(CACHE));
    assertRuns('missing');
    assertRefused(/dist\/virtlockd\.cache of build \S+ cannot be read/);
  });

  it('runs without a cache for another runtime', () => {
    const build = installed.read('dist/build.json').toString();
    installed.replace('dist/build.json', build.replace(process.version, 'v24.0.0'));
    assertRuns('another runtime');
    assertRefused(/is for Node\.js v24\.0\.0 \w+, and this is v24\.\d+/);
  });

  it('runs without what says of which build it is, and says so to a proof', () => {
    for (const text of ['', '{', 'null', '[]', '{"parts":null}', '{"id":"0","parts":{}}']) {
      installed.replace('dist/build.json', text);
      assertRuns(text);
      assertRefused(/\n\S+/);
    }
    rmSync(installed.path('dist/build.json'));
    assertRuns('missing');
    assertRefused(/dist\/build\.json cannot be read/);
  });

  it('says on the standard error of a tool what it did without', () => {
    for (const tool of ['virt-lockctl', 'virtlockd-trace']) {
      installed.repair(`bin/${tool}`);
      installed.replace(`dist/${tool}.cache`, 'x');
      const { status, stderr } = run(`bin/${tool}`, '--version');
      assert.equal(status, 0, stderr);
      assert.match(stderr, new RegExp(`^\\S+: dist/${tool}\\.cache is not of build \\S+\\n$`));
    }
  });

  it('refuses as a successor what is not of one build, whatever part it is, and runs nothing of it', () => {
    const broken = 'process.stdout.write("was run"); process.exit(0);\n';
    const parts = {
      'dist/posix.node': installed.read('dist/relay.node'),
      [FS_EXT]: installed.read('dist/relay.node'),
      'node_modules/fs-ext/fs-ext.js': broken,
      'dist/virtlockd.cjs': broken,
      'bin/virtlockd': Buffer.concat([installed.read('bin/virtlockd'), Buffer.from('\n')]),
      'bin/launcher.sh': Buffer.concat([installed.read('bin/launcher.sh'), Buffer.from('\n')]),
      'dist/virt-lockctl.cjs': broken,
    };
    for (const [part, bytes] of Object.entries(parts)) {
      installed.replace(part, bytes);
      assertRefused(new RegExp(`\\n${part.replaceAll('.', '\\.')} is not of build`));
      rmSync(installed.path(part));
      if (!part.startsWith('bin/'))
        assertRefused(new RegExp(`\\n${part.replaceAll('.', '\\.')} of build \\S+ cannot be read`));
      installed.repair(part);
    }
    assert.equal(proof().status, 0);
  });

  it('refuses a build whose start script is of another one', () => {
    // As it was before there were builds: it tells the bundle nothing.
    const first =
      "const { readFileSync } = require('node:fs'); const vm = require('node:vm');\n" +
      'const filename = `${__dirname}/virtlockd.cjs`; const bundle = { exports: {} };\n' +
      "const wrapped = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\\n})`;\n" +
      'new vm.Script(wrapped, { filename }).runInThisContext()(bundle.exports, require, bundle, filename, __dirname);\n';
    installed.replace('dist/start.cjs', first);
    assertRuns('an older start script');
    assertRefused(/dist\/start\.cjs is not of the build of dist\/virtlockd\.cjs/);
  });
});
