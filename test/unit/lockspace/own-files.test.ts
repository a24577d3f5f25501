import assert from 'node:assert/strict';
import { linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { findKnown } from '../../../src/lockspace/files.ts';
import { protectPath } from '../../../src/lockspace/own-files.ts';
import { temporaryDirectory } from '../support/locks.ts';

describe("the daemon's own files", () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  const at = (name: string): string => path.join(directory.path, name);

  beforeEach(() => {
    directory = temporaryDirectory();
    mkdirSync(at('etc'));
    writeFileSync(at('etc/conf'), '');
    linkSync(at('etc/conf'), at('other name'));
    protectPath(at('etc/conf'), 'configuration');
  });
  afterEach(() => {
    directory.remove();
  });

  it('stay so while it cannot be found out what their path names', () => {
    renameSync(at('etc'), at('away'));
    symlinkSync('etc', at('etc'));
    assert.equal(findKnown(at('other name')).own?.purpose, 'configuration');
  });

  it('are such no more when their path names nothing', () => {
    rmSync(at('etc/conf'));
    assert.equal(findKnown(at('other name')).own, undefined);
  });
});
