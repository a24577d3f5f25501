/** The alert rules, judged by Prometheus's own tool. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { onPath } from '../../../src/lab/requirements.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';

const directory = join(checkout, 'packaging/monitoring');
const rules = join(directory, 'virtlockd.rules.yml');
const tests = join(directory, 'virtlockd.rules.test.yml');

describe('the alert rules', function () {
  this.timeout(60_000);

  before(function () {
    skipIf(this, onPath('promtool') ? undefined : 'promtool is not installed (package prometheus)');
  });

  const promtool = (...args: readonly string[]): string =>
    execFileSync('promtool', args, { encoding: 'utf8', stdio: 'pipe' });

  it('are valid', () => {
    assert.match(promtool('check', 'rules', rules), /SUCCESS/);
  });

  it('fire for what they name, and for nothing else', () => {
    assert.match(promtool('test', 'rules', tests), /SUCCESS/);
  });

  it('each have a test in which they fire', () => {
    const tried = readFileSync(tests, 'utf8');
    const names = [...readFileSync(rules, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name = '']) => name);
    assert.ok(names.length > 10);
    for (const name of names) assert.ok(tried.includes(`alertname="${name}"`), name);
  });
});
