/** One version everywhere: what npm, Debian, the changelog and the documents say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../../..');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

describe('the version', () => {
  const { version } = JSON.parse(read('package.json')) as { version: string };

  it("is package.json's everywhere", () => {
    const lock = JSON.parse(read('package-lock.json')) as { version: string; packages: { '': { version: string } } };
    assert.equal(lock.version, version, 'package-lock.json');
    assert.equal(lock.packages[''].version, version, 'package-lock.json');
    assert.ok(read('packaging/debian/changelog').startsWith(`virtlockd-node (${version}) `), 'debian/changelog');
    const [, newest] = /^## (\d+\.\d+\.\d+)$/m.exec(read('CHANGELOG.md')) ?? [];
    assert.equal(newest, version, 'CHANGELOG.md');
  });

  it('is that of the documents', () => {
    for (const file of ['docs/client.md', 'docs/operations/install.md', 'docs/operations/lockctl.md']) {
      const named = read(file).matchAll(/virtlockd-(?:node|client)(?:_| \(| |-)(\d+\.\d+\.\d+)\b/g);
      const versions = new Set([...named].map(([, one]) => one));
      assert.deepEqual([...versions], [version], file);
    }
    for (const page of ['virt-lockctl', 'virtlockd-trace', 'virtlockd-conformance', 'virtlockd-fuzz']) {
      assert.match(read(`docs/man/${page}.1`), new RegExp(`^\\.TH .* "virtlockd-node ${version}" `, 'm'), page);
    }
  });
});
