/** The programs in bin/ find their installation, also when they are started by links. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import { useTemporaryDirectory } from '../support/locks.ts';

const PROGRAMS = ['virtlockd', 'virt-lockctl', 'virtlockd-trace', 'virtlockd-conformance'];

describe('a program in bin/', function () {
  this.timeout(60_000);
  const directory = useTemporaryDirectory();

  function assertStarts(file: string, PATH = process.env.PATH): void {
    const { status, stdout, stderr } = spawnSync(file, ['--version'], {
      encoding: 'utf8',
      env: { ...process.env, PATH },
    });
    assert.equal(status, 0, `${file}: ${stderr}`);
    assert.match(stdout, /\d+\.\d+\.\d+/);
    // The daemon executes itself again by the path that it was started by.
    if (file.endsWith('virtlockd')) assert.ok(stdout.startsWith(`${file} `), stdout);
  }

  it('starts no other program to find them when its path is no link', () => {
    for (const program of PROGRAMS) assertStarts(path.join(checkout, 'bin', program), '/nonexistent');
  });

  it('finds them behind links to links, relative links and linked directories', () => {
    const at = (...names: readonly string[]): string => path.join(directory.path, ...names);
    for (const name of ['absolute', 'relative', 'links/deep', 'through']) mkdirSync(at(name), { recursive: true });
    symlinkSync(checkout, at('links/current'));
    symlinkSync('links/current', at('current'));
    symlinkSync(at('links/deep'), at('shallow'));
    for (const program of PROGRAMS) {
      const target = path.join(checkout, 'bin', program);
      symlinkSync(target, at('absolute', program));
      symlinkSync(`../absolute/${program}`, at('relative', program));
      symlinkSync(`../current/bin/${program}`, at('through', program));
      // Its .. is the directory above links/deep, where the link is, and not above the name that the directory goes by.
      symlinkSync(`../current/bin/${program}`, at('links/deep', program));
      for (const way of ['absolute', 'relative', 'through', 'current/bin', 'shallow']) assertStarts(at(way, program));
    }
  });
});
