/** A sample of npm run inject, and proof that it finds faults. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { Mutants } from '../../wire/programs/conformance/mutants/build.ts';
import type { Edit } from '../../wire/programs/conformance/mutants/mutant.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { Campaign, isAtBoot } from './campaign.ts';
import { failuresOf } from './errors.ts';
import { UsageError } from '../../../src/lab/command-line.ts';
import { parseOptions, usage } from './options.ts';
import { type Injection, missingTracer } from './tracer.ts';
import { describe as inWords, injectionsOn, sampleOf, wayOf } from './way.ts';

/** How many errors are tried here. All of them take a quarter of an hour. */
const SAMPLE = 16;
const SEED = 7;

/** The findings of all runs, one of each kind. */
const ONCE_FOUND: readonly (readonly [key: string, error: string])[] = [
  ['new readlink /proc/self/fd/#', 'EACCES'],
  ['new openat /CHECKOUT/node_modules/fs-ext/package.json', 'ENOENT'],
  ['new statx /run/virtlockd.pid', 'ENOENT'],
  ['boot clone3 -', 'EPERM'],
  ['new read /proc/#/cgroup', 'ENOMEM'],
];

/** Daemons that cannot bear an error which the real one bears, and errors that show it. */
const BROKEN: readonly {
  readonly name: string;
  readonly edit: Edit;
  readonly isShownBy: (injection: Injection) => boolean;
}[] = [
  {
    name: 'begins again when it cannot read its state at once',
    edit: {
      file: 'src/restart/predecessor.ts',
      find: '= readInTheEnd(stateFile)',
      replace: '= readStateFile(stateFile)',
    },
    isShownBy: ({ key, error }) => key === 'new openat /run/virtlockd-restart-exec.json' && error === 'EMFILE',
  },
  {
    name: 'takes a lack of memory for the end of a connection',
    edit: {
      file: 'src/rpc/connection.ts',
      find: 'return status === -EAGAIN || status === -ENOBUFS || status === -ENOMEM;',
      replace: 'return status === -EAGAIN;',
    },
    isShownBy: ({ key, error, nth }) => key.startsWith('new recvmsg socket@') && error === 'ENOMEM' && nth === 1,
  },
];

describe('which calls are to fail', () => {
  it('are all that were met, with each of their errors', () => {
    const way = wayOf([['new listen socket@3'], ['new listen socket@3', 'new listen socket@3', 'new getpid -']]);
    assert.deepEqual(
      injectionsOn(way).map(inWords),
      [1, 2].flatMap((nth) =>
        ['EACCES', 'EADDRINUSE', 'ENOBUFS'].map((name) => `new listen socket@3 #${nth}: ${name}`),
      ),
    );
  });

  it('have errors by what they are made for', () => {
    const errors = (key: string): string[] => failuresOf(key).map(({ error }) => error);
    assert.ok(errors('new fcntl:F_SETLK /SHARED/image').includes('ENOLCK'));
    assert.ok(errors('new read /SHARED/image').includes('ESTALE'));
    assert.ok(!errors('new read /proc/self/stat').includes('ESTALE'));
    assert.deepEqual(errors('new read socket@3'), ['EINTR', 'EAGAIN']);
  });

  it('are the same for the same seed', () => {
    const all = Array.from({ length: 100 }, (_, index) => index);
    assert.deepEqual(sampleOf(all, 5, 3), sampleOf(all, 5, 3));
    assert.notDeepEqual(sampleOf(all, 5, 3), sampleOf(all, 5, 4));
    assert.deepEqual(
      sampleOf(all, 200, 3).toSorted((a, b) => a - b),
      all,
    );
  });
});

describe('the options of inject', () => {
  it('are all told by --help, and no others', () => {
    const told = new Set([...usage.matchAll(/--(?:no-)?([a-z]+)/g)].map(([, name]) => name));
    const options = parseOptions(['--errno', 'EIO', '--nth', '2']);
    assert.ok(typeof options === 'object');
    const { error, scenes, ...others } = options;
    assert.deepEqual([error, scenes], ['EIO', [false, true]]);
    assert.deepEqual([...told].sort(), [...Object.keys(others), 'errno', 'ending', 'help'].sort());
  });

  it('are refused when they are wrong', () => {
    for (const wrong of [['--errno', 'ENOSUCH'], ['--nth', '0'], ['--jobs', 'x'], ['--unknown'], ['word']]) {
      assert.throws(() => parseOptions(wrong), UsageError, wrong.join(' '));
    }
  });
});

describe('a restart with an error', function () {
  this.timeout(180_000);

  before(function () {
    skipIf(this, missingDaemon('ours') ?? missingTracer());
  });

  async function all(campaign: Campaign): Promise<Injection[]> {
    const injections = injectionsOn(await campaign.way());
    assert.deepEqual([...campaign.usual], [], 'without any error');
    return injections;
  }

  it('costs no lock, no process and no answer', async () => {
    const campaign = new Campaign({ ending: false });
    try {
      const later = (await all(campaign)).filter((injection) => !isAtBoot(injection));
      for (const injection of sampleOf(later, SAMPLE, SEED)) await campaign.try(injection);
      const found = campaign.findings.map(({ injection, problems }) => [inWords(injection), ...problems]);
      assert.deepEqual(found, []);
      assert.ok(campaign.counts.missed < SAMPLE / 2, 'most of the calls were met');
    } finally {
      await campaign.close();
    }
  });

  it('costs nothing where it once did', async () => {
    const campaign = new Campaign({ ending: false });
    try {
      const wanted = (await all(campaign)).filter(({ key, error }) =>
        ONCE_FOUND.some((found) => found[0] === key && found[1] === error),
      );
      for (const [key] of ONCE_FOUND)
        assert.ok(
          wanted.some((injection) => injection.key === key),
          key,
        );
      for (const injection of wanted) await campaign.try(injection);
      assert.deepEqual(
        campaign.findings.map(({ injection, problems }) => [inWords(injection), ...problems]),
        [],
      );
    } finally {
      await campaign.close();
    }
  });

  it('is judged by the command as well, which tells it as JSON', async () => {
    const args = ['--only', 'new openat /run/virtlockd-restart-exec.json', '--nth', '1', '--errno', 'EMFILE'];
    const main = join(checkout, 'test/campaigns/inject/main.ts');
    const { status, output } = await new Promise<{ status: unknown; output: string }>((resolve) => {
      execFile(
        join(checkout, 'scripts/node'),
        [main, ...args, '--no-ending', '--jobs', '1', '--json', '--quiet'],
        (error, stdout) => {
          resolve({ status: error?.code ?? 0, output: stdout });
        },
      );
    });
    const { results } = JSON.parse(output) as { results: { runs: number; findings: unknown[] }[] };
    assert.deepEqual({ status, runs: results.map(({ runs }) => runs) }, { status: 0, runs: [1] });
    assert.deepEqual(results[0]?.findings, []);
  });

  describe('of a broken daemon', () => {
    let built: Mutants;
    before(() => {
      built = new Mutants();
    });
    after(() => {
      (built as Mutants | undefined)?.remove();
    });

    for (const { name, edit, isShownBy } of BROKEN) {
      it(`is found: one that ${name}`, async () => {
        const program = await built.program({ name, edits: [edit], caughtBy: [] });
        const campaign = new Campaign({ ending: false, program });
        try {
          const wanted = (await all(campaign)).filter(isShownBy);
          for (const injection of wanted) if ((await campaign.try(injection)) !== null) break;
          assert.equal(campaign.findings.length, 1, `${wanted.length} errors tried`);
        } finally {
          await campaign.close();
        }
      });
    }
  });
});
