/** Wordings that were replaced by plainer ones stay out of helps, messages and documents. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../../..');

/** Each with the wording that is better. */
const REPLACED: readonly (readonly [pattern: RegExp, better: string])[] = [
  [/on purpose, and nothing else/i, 'Deliberate differences:'],
  [/an acquire of a file would meet/, 'predict whether locking a file would succeed now'],
  [/looks after it/, 'check and replace the lock daemon'],
  [/\bare as the daemon says/, 'all confirmed by the kernel'],
  [/that lock is (?:exclusive|shared)/, 'holds an exclusive lock'],
  [/is no whole number/, 'must be an integer from … to …'],
  [/No lock fits/, 'No lock matches.'],
  // An exit status or a value may be 1.
  [
    /(?<!\b0 \w+(?: \w+)?, )\b1 (?:lockspaces|resources|locks|owners|clients|guests|errors|warnings|findings)\b/,
    'a noun that agrees',
  ],
  [/default: a free one/, '(default: a free port)'],
  [/the way of one ACQUIRE/, 'the path of one ACQUIRE request'],
];

describe('the words of helps, messages and documents', () => {
  const files = execFileSync(
    'git',
    ['ls-files', '-coz', '--exclude-standard', 'src', 'docs', 'bin', 'packaging', 'scripts', '*.md'],
    { cwd: root, encoding: 'utf8' },
  )
    .split('\0')
    .filter((file) => /(?:\.(?:ts|cjs|js|md|conf|[1-8]|bash|zsh|fish|sh|yml|json|css|html)|\/[^./]+)$/.test(file));

  it('are found', () => {
    for (const file of ['README.md', 'docs/man/virt-lockctl.1', 'src/programs/lockctl/program.ts'])
      assert.ok(files.includes(file), file);
  });

  for (const [pattern, better] of REPLACED) {
    it(`are '${better}', not ${String(pattern)}`, () => {
      const wrong = files.flatMap((file) =>
        readFileSync(path.join(root, file), 'utf8')
          .split('\n')
          .filter((line) => pattern.test(line))
          .map((line) => `${file}: ${line.trim()}`),
      );
      assert.deepEqual(wrong, []);
    });
  }
});
