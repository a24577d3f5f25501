/** Every link of the documents leads somewhere. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../../..');
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md']
  .concat(readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((file) => `docs/${file}`))
  .filter((file) => file.endsWith('.md'));

/** The names that GitHub gives to the headings of a page. */
function anchors(text: string): Set<string> {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

describe('the documents', () => {
  for (const page of pages) {
    it(`${page} links to what is there`, () => {
      const text = readFileSync(path.join(root, page), 'utf8').replaceAll(/^```[^]*?^```$/gm, '');
      for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
        const [file = '', anchor] = target.split('#');
        const found = path.join(root, path.dirname(page), file === '' ? path.basename(page) : file);
        assert.ok(existsSync(found), target);
        if (anchor === undefined || statSync(found).isDirectory()) continue;
        assert.ok(anchors(readFileSync(found, 'utf8')).has(anchor), target);
      }
    });

    it(`${page} names npm scripts that there are`, () => {
      const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { scripts: object };
      for (const [, name = ''] of readFileSync(path.join(root, page), 'utf8').matchAll(/npm run ([a-z][a-z0-9:-]*)/g)) {
        assert.ok(Object.hasOwn(scripts, name), name);
      }
    });

    it(`${page} names files of the tree that there are`, () => {
      const tracked = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
      const files = tracked.split('\n');
      const text = readFileSync(path.join(root, page), 'utf8');
      for (const [, name = ''] of text.matchAll(/`((?:src|test|scripts|packaging|bench|fixtures)\/[\w./-]+)`/g)) {
        assert.ok(
          files.some((file) => file === name || file.startsWith(`${name.replace(/\/$/, '')}/`)),
          name,
        );
      }
    });
  }
});
