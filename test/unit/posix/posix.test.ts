import assert from 'node:assert/strict';
import os from 'node:os';
import { FileType, fileType, strerror } from '../../../src/posix/posix.ts';

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
});
