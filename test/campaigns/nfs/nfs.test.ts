/** The parts of `npm run nfs` that need no virtual machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../../../src/lab/command-line.ts';
import { eventually, Running } from '../../../src/lab/process.ts';
import { onPath } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';
import { type Fact, factIn } from './facts.ts';
import { judge } from './judge.ts';
import { parseOptions } from './options.ts';
import { sceneParts, scenesOf, subjectNames, versions } from './plan.ts';

describe('the command line of npm run nfs', () => {
  it('refuses unknown options and values', () => {
    for (const args of [
      ['--kernels', '2.6'],
      ['--versions', '4.2,2'],
      ['--scenes', 'cut,nonsense'],
      ['--limit', '0'],
      ['--nonsense'],
      ['word'],
    ]) {
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    }
    const { kernels, scenes } = parseOptions(['--kernels', '5.10', '--scenes', 'cut,swap']);
    assert.deepEqual([kernels, scenes], [['5.10'], ['cut', 'swap']]);
  });

  it('ends with 0 for help and with 2 for usage', () => {
    const nfs = (...args: string[]): { status: number | null; stdout: string } =>
      spawnSync(join(checkout, 'scripts/node'), [join(checkout, 'test/campaigns/nfs/main.ts'), ...args], {
        encoding: 'utf8',
      });
    const { status, stdout } = nfs('--help');
    assert.equal(status, 0);
    for (const word of ['--kernels', '--versions', '--scenes', '--limit', '--words', '--json', ...subjectNames]) {
      assert.ok(stdout.includes(word), word);
    }
    assert.equal(nfs('--limit', 'none').status, 2);
  });
});

describe('the plan of npm run nfs', () => {
  it('has every scene on both versions with the new kernel, and those of exec with the old one', () => {
    assert.equal(scenesOf('6.1', subjectNames, versions).length, subjectNames.length * versions.length);
    assert.deepEqual(scenesOf('5.10', subjectNames, ['3']), ['restart-3', 'death-3', 'swap-3']);
    assert.deepEqual(scenesOf('5.10', ['cut'], versions), []);
    assert.deepEqual(sceneParts('cut-4.2'), { subject: 'cut', version: '4.2' });
  });
});

describe('the judge of npm run nfs', () => {
  const scene = 'swap-4.2';
  const ended: Fact = { is: 'ended', scene, seconds: 1 };
  const kinds = (...facts: readonly Fact[]): string[] => judge([scene], [ended, ...facts]).map(({ kind }) => kind);
  const checked = (ok: boolean): Fact => ({ is: 'checked', scene, what: 'it is so', ok, detail: '' });

  it('finds nothing in an ordinary run', () => {
    assert.deepEqual(kinds(checked(true)), []);
  });

  it('finds checks that failed, and scenes that were broken off or not played', () => {
    assert.deepEqual(kinds(checked(false)), ['not so: it is so']);
    assert.deepEqual(kinds({ ...ended, error: 'late' }), ['scene broken off']);
    assert.deepEqual(
      judge([scene, 'cut-3'], [ended]).map(({ kind, detail }) => [kind, detail]),
      [['scene not played', 'cut-3']],
    );
  });

  it('finds any span in which a lock was free', () => {
    assert.deepEqual(kinds({ is: 'free', scene, during: 'a swap', file: '/disk', ms: 0.1 }), ['lock free']);
  });
});

describe('a line of the virtual machine', () => {
  it('is a fact, or something else that was printed', () => {
    const done: Fact = { is: 'done', kernel: '6.1.0' };
    assert.deepEqual(factIn(`${JSON.stringify(done)}\r`), done);
    for (const line of ['', 'null', '[1]', '{"is":"nonsense"}', '{"is":"done"', '[   1.0] Linux']) {
      assert.equal(factIn(line), undefined, line);
    }
  });
});

describe('the rival of npm run nfs', () => {
  const env = { PATH: process.env.PATH ?? '' };
  const HOLDER = `import fcntl, sys, time
file = open(sys.argv[1], 'r+')
fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
print('held', flush=True)
time.sleep(60)
`;
  let directory: string;

  before(function () {
    skipIf(this, onPath('python3') ? undefined : 'python3 is not installed (package python3)');
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-rival-'));
  });

  after(() => {
    if ((directory as string | undefined) !== undefined) rmSync(directory, { recursive: true });
  });

  for (const mode of ['look', 'take'] as const) {
    it(`reports which locks were free, and none that was held, when it ${mode}s`, async () => {
      const files = ['held', 'free'].map((name) => join(directory, `${mode}-${name}`));
      for (const file of files) writeFileSync(file, '');
      const [held = ''] = files;
      const found = async (): Promise<string[]> => {
        const script = join(checkout, 'test/campaigns/nfs/inside/rival.py');
        const rival = Running.start(['python3', '-S', '-E', script, mode, ...files], { env }, {});
        await eventually('the rival asks', () => rival.output !== '');
        const { code, stdout, stderr } = await rival.stop();
        assert.equal(code, 0, stderr);
        const lines = stdout.trim().split('\n');
        const last = JSON.parse(lines.at(-1) ?? '') as { asked?: number };
        assert.ok((last.asked ?? 0) >= files.length, stdout);
        return files.filter((file) => lines.some((line) => line.includes(`"${file}"`)));
      };
      const holder = Running.start(['python3', '-c', HOLDER, held], { env }, {});
      try {
        await eventually('the lock is held', () => holder.output.includes('held'));
        assert.deepEqual(await found(), files.slice(1));
      } finally {
        await holder.stop('SIGKILL');
      }
      assert.deepEqual(await found(), files);
    });
  }
});
