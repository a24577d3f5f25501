/** How long virtlockd-conformance waits for a daemon. */
import assert from 'node:assert/strict';
import { patient, setPatience } from '../../../../src/lab/patience.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { writtenCheck } from '../../../../src/programs/conformance/check.ts';
import { parseOptions } from '../../../../src/programs/conformance/options.ts';
import { run } from '../../../../src/programs/conformance/run.ts';
import type { Subject } from '../../../../src/programs/conformance/subject.ts';

describe('the patience of virtlockd-conformance', () => {
  afterEach(() => {
    setPatience(1);
  });

  it('is usual, unless the command line says otherwise', () => {
    assert.equal(patient(10), 10);
    assert.equal(parseOptions(['--', 'virtlockd']).patience, 1);
    assert.equal(parseOptions(['--patience', '20', '--', 'virtlockd']).patience, 20);
  });

  it('makes the time longer in which something must come about', async () => {
    setPatience(4);
    await assert.rejects(
      eventually('it is so', () => false, 5),
      /not within 20 ms: it is so/,
    );
  });

  it('makes the time for a check longer', async () => {
    let kill: (why: Error) => void = () => undefined;
    const hung = new Promise<void>((_, reject) => (kill = reject));
    const never = async (): Promise<never> => Promise.reject(new Error('is not called'));
    const subject: Subject = {
      foreign: undefined,
      program: '/virtlockd',
      place: undefined,
      daemon: never,
      start: never,
      newDirectory: () => '/',
      play: never,
      kill: () => {
        kill(new Error('the connection has ended'));
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    };
    const check = writtenCheck('wire', 'hangs', 'It does not.', async () => hung, { limit: 10 });
    setPatience(3);
    const [result] = await run({
      checks: [check],
      open: async () => Promise.resolve(subject),
      generation: '9.0.0',
      jobs: 1,
    });
    assert.equal(result?.detail, 'the daemon did not answer within 0.03 s, and was killed');
  });
});
