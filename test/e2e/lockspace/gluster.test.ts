import assert from 'node:assert/strict';
import { measureWaits, type Question, questions } from '../../../bench/hung-calls.ts';
import { missingDaemon, missingGluster } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';

/** In ms, on a busy machine too. A command starts a program; the daemon's end waits some seconds for what hangs. */
const bounds: Partial<Record<Question, number>> = {
  'a call of another client': 500,
  'SIGTERM, until the daemon has ended': 8000,
};

describe('a GlusterFS that does not answer', function () {
  this.timeout(120_000);

  before(function () {
    skipIf(this, missingDaemon('ours'), missingGluster());
  });

  it('keeps nobody else waiting', async () => {
    const waits = await measureWaits('ours', true, 10_000);
    for (const question of questions) {
      const { ms, code } = waits[question] ?? {};
      assert.ok(ms !== undefined && ms < (bounds[question] ?? 5000), `${question}: ${ms ?? 'no'} ms`);
      // check may say that it does not answer.
      const most = question === '`virt-lockctl check`' ? 1 : 0;
      assert.ok(code === undefined || (code !== null && code <= most), `${question}: exit ${code ?? 'by a signal'}`);
    }
  });

  it('is no finding of any command while it answers', async () => {
    const waits = await measureWaits('ours', false, 10_000);
    for (const question of questions) {
      const code = waits[question]?.code;
      assert.ok(code === undefined || code === 0, `${question}: exit ${code ?? 'by a signal'}`);
    }
  });
});
