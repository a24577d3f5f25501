import assert from 'node:assert/strict';
import { readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { findChanged } from '../../../src/restart/build.ts';
import { useTemporaryDirectory } from '../support/locks.ts';

describe('the files of a build', () => {
  const directory = useTemporaryDirectory();

  it('have changed when one was replaced, written to or removed since', () => {
    const file = path.join(directory.path, 'part');
    writeFileSync(file, 'one');
    const identities = (): Record<string, string> => {
      const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
      return { [file]: [dev, ino, size, mtimeNs, ctimeNs].join(':') };
    };
    let before = identities();
    assert.equal(findChanged(before), undefined);
    readFileSync(file);
    assert.equal(findChanged(before), undefined);
    const { mtime } = statSync(file);
    // Of the same length, and made to look as old.
    writeFileSync(`${file}.new`, 'two');
    utimesSync(`${file}.new`, mtime, mtime);
    renameSync(`${file}.new`, file);
    assert.equal(findChanged(before), file);
    before = identities();
    writeFileSync(file, 'three');
    assert.equal(findChanged(before), file);
    before = identities();
    rmSync(file);
    assert.equal(findChanged(before), file);
  });
});
