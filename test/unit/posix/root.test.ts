import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { temporaryDirectory } from '../support/locks.ts';

describe('a package that was installed for this one', () => {
  const { path: top, remove } = temporaryDirectory();
  const root = path.join(top, 'node_modules/own');
  const source = path.join(root, 'src/posix/root.mjs');

  function put(directory: string): void {
    mkdirSync(path.join(directory, 'fs-ext'), { recursive: true });
    writeFileSync(path.join(directory, 'fs-ext/index.js'), 'module.exports = __dirname;');
  }

  function loaded(): string {
    const script = `const { requireFromRoot } = await import(${JSON.stringify(pathToFileURL(source).href)});
      try { console.log(requireFromRoot('fs-ext/index.js')); } catch (error) { console.log(error.message); }`;
    return execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { HOME: path.join(top, 'home'), NODE_PATH: path.join(top, 'planted') },
    }).trim();
  }

  before(() => {
    mkdirSync(path.dirname(source), { recursive: true });
    writeFileSync(path.join(root, 'package.json'), '{}');
    const code = readFileSync(path.join(import.meta.dirname, '../../../src/posix/root.ts'), 'utf8');
    writeFileSync(source, stripTypeScriptTypes(code));
  });
  after(remove);

  it('is loaded from below it or from beside it, and from nowhere else', () => {
    for (const planted of ['home/.node_modules', 'home/.node_libraries', 'planted', 'node_modules/node_modules']) {
      put(path.join(top, planted));
    }
    assert.equal(loaded(), `fs-ext/index.js is not installed below ${root}`);
    for (const place of [path.join(top, 'node_modules'), path.join(root, 'node_modules')]) {
      put(place);
      assert.equal(loaded(), path.join(place, 'fs-ext'));
    }
    rmSync(path.join(root, 'node_modules'), { recursive: true });
    assert.equal(loaded(), path.join(top, 'node_modules/fs-ext'));
  });
});
