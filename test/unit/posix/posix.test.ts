import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import vm from 'node:vm';
import { FileType, fileType, strerror } from '../../../src/posix/posix.ts';
import { temporaryDirectory } from '../support/locks.ts';

const { ENOENT, EPROTO, EOPNOTSUPP } = os.constants.errno;

describe('posix', () => {
  it("words an errno of either sign as libvirt's errors do, not as Node.js", () => {
    assert.equal(strerror(ENOENT), 'No such file or directory');
    assert.equal(strerror(-EOPNOTSUPP), 'Operation not supported');
    assert.equal(strerror(EPROTO), 'Protocol error');
    assert.equal(strerror(4095), 'Unknown error 4095');
  });

  it('finds the type of a file', () => {
    assert.equal(fileType('/'), FileType.DIRECTORY);
    assert.equal(fileType('/dev/null'), FileType.CHARACTER);
    assert.equal(fileType(import.meta.filename), FileType.REGULAR);
    assert.equal(fileType('/missing/file'), -ENOENT);
  });

  it("has V8 take the code caches of the runtime's modules again", () => {
    const directory = temporaryDirectory();
    const cache = path.join(directory.path, 'cache');
    const source = '() => 1';
    writeFileSync(cache, new vm.Script(source).createCachedData());
    const script = `
      const cachedData = require('node:fs').readFileSync(process.argv[1]);
      const isRejected = () => new (require('node:vm').Script)(${JSON.stringify(source)}, { cachedData }).cachedDataRejected;
      const before = isRejected();
      process.dlopen({ exports: {} }, process.argv[2]);
      console.log(before, isRejected());`;
    const addon = path.resolve(import.meta.dirname, '../../../dist/posix.node');
    const { stdout } = spawnSync(process.execPath, ['--no-rehash-snapshot', '-e', script, cache, addon], {
      encoding: 'utf8',
    });
    directory.remove();
    assert.equal(stdout, 'true false\n');
  });
});
