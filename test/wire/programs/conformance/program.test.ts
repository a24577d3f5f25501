/** The program itself: its command line, its reports, daemons that run already, and daemons of an ordinary user. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Result } from '../../../../src/programs/conformance/check.ts';
import { checks } from '../../../../src/programs/conformance/checks.ts';
import { usage } from '../../../../src/programs/conformance/options.ts';
import type { Totals } from '../../../../src/programs/conformance/report/report.ts';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';

const program = join(checkout, 'bin/virtlockd-conformance');
const ours = join(checkout, 'bin/virtlockd');
const theirs = '/usr/sbin/virtlockd';
const browserProgram = '/usr/bin/chromium';
/** Some quick checks, one of which C fails. */
const some = ['--only', '*path-with-dots', '--only', 'wire/serials', '--only', 'lockd/restrict-twice'];

interface Written {
  readonly generation: string;
  readonly claims: string;
  readonly totals: Totals;
  readonly results: readonly Result[];
}

function conformance(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(program, args, { encoding: 'utf8', timeout: 120_000 });
}

/** The names and levels of an XML document's elements. @throws Error when it is not well-formed */
function elements(xml: string): string[] {
  const open: string[] = [];
  const found: string[] = [];
  const rest = xml.replace(
    /<\?xml[^?]*\?>|<(\/?)([a-z]+)((?: [a-z]+="[^"<&]*(?:&(?:amp|lt|gt|quot|#10);[^"<&]*)*")*)(\/?)>/g,
    (_, end: string | undefined, name: string | undefined, __, empty: string | undefined) => {
      if (name === undefined) return '';
      if (end === '/') assert.equal(open.pop(), name);
      else {
        found.push([...open, name].join('/'));
        if (empty !== '/') open.push(name);
      }
      return '';
    },
  );
  assert.deepEqual(open, []);
  assert.doesNotMatch(rest.replace(/&(amp|lt|gt|quot|#10);/g, ''), /[<>&]/);
  return found;
}

describe('virtlockd-conformance', function () {
  this.timeout(120_000);
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-conformance-test-'));
    chmodSync(directory, 0o755);
  });

  after(() => {
    rmSync(directory, { recursive: true });
  });

  it('finds a daemon by a path from where it was called', function () {
    skipIf(this, missingDaemon('ours'));
    const args = ['--only', 'wire/serials', '--', './bin/virtlockd'];
    const { status, stderr } = spawnSync(program, args, { cwd: checkout, encoding: 'utf8', timeout: 120_000 });
    assert.equal(status, 0, stderr);
  });

  it('prints help that knows every option of the manual, and the manual every one of the help', () => {
    const { status, stdout } = conformance('--help');
    assert.equal(status, 0);
    assert.equal(stdout, usage);
    const manual = readFileSync(join(checkout, 'docs/man/virtlockd-conformance.1'), 'utf8').replaceAll('\\-', '-');
    const options = (text: string): string[] => [...new Set(text.match(/--[a-z]+(-[a-z]+)*/g))].sort();
    assert.deepEqual(options(manual), options(usage));
  });

  it('prints its version', () => {
    assert.match(conformance('-V').stdout, /^virtlockd-conformance \d+\.\d+\.\d+\n$/);
  });

  it('lists the checks with their promises', () => {
    const lines = conformance('--list').stdout.trimEnd().split('\n');
    assert.equal(lines.length, checks.length);
    assert.ok(lines.includes('lockd/restrict-twice: RESTRICT forbids the next RESTRICT too.'));
    const wire = conformance('--list', '--only', 'wire').stdout.trimEnd().split('\n');
    assert.ok(wire.length > 100 && wire.every((line) => line.startsWith('wire/') || /^[^:]*wire/.test(line)));
  });

  it('lists to a reader that closes the pipe', () => {
    const piped = `set -o pipefail; ${JSON.stringify(program)} --list | head -n 1`;
    const { status, stdout, stderr } = spawnSync('bash', ['-c', piped], { encoding: 'utf8', timeout: 60_000 });
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^[a-z]+\/\S+: .*\n$/);
  });

  for (const args of [
    [],
    ['--bogus'],
    ['stray', '--', ours],
    ['--jobs', 'x', '--', ours],
    ['--patience', '0', '--', ours],
    ['--attach', '/x', '--', ours],
    ['--only', 'nothing-is-called-so', '--', ours],
    ['--tap', '--json', '-', '--', ours],
    ['--against', '8.0.0', '--', ours],
  ]) {
    it(`takes '${args.join(' ')}' for a mistake`, () => {
      const { status, stderr } = conformance(...args);
      assert.equal(status, 2, stderr);
      assert.match(stderr, /^virtlockd-conformance: .*\nTry/);
    });
  }

  it('cannot check what does not start, or is not there', () => {
    const missing = conformance(...some, '--', '/nonexistent/virtlockd');
    assert.equal(missing.status, 3, missing.stdout);
    assert.match(missing.stderr, /^virtlockd-conformance: /);
    assert.equal(conformance(...some, '--attach', join(directory, 'nothing')).status, 3);
  });

  it('waits as many times as long as it is told', function () {
    skipIf(this, missingDaemon('ours'));
    // It waits 200 ms for an event that must not come.
    const one = ['--only', 'inquire/who-has-unsubscribed-gets-nothing'];
    const { status, stdout } = conformance(...one, '--patience', '10', '--json', '-', '--', ours);
    assert.equal(status, 0, stdout);
    const { results } = JSON.parse(stdout) as { results: readonly Result[] };
    assert.ok((results[0]?.time ?? 0) >= 2000, stdout);
  });

  describe('of the C daemon', () => {
    const file = (name: string): string => join(directory, name);
    let failed: ReturnType<typeof conformance>;
    let written: Written;

    before(function () {
      skipIf(this, missingDaemon('9.0.0'));
      const reports = ['json', 'junit', 'html'].flatMap((kind) => [`--${kind}`, file(kind)]);
      failed = conformance('--only', 'ownership', ...some, ...reports, '--', theirs);
      written = JSON.parse(readFileSync(file('json'), 'utf8')) as Written;
    });

    it('fails, and says what and why', () => {
      assert.equal(failed.status, 1);
      assert.match(
        failed.stdout,
        /^FAIL ownership\/two-owners-one-file-a-path-with-dots\n {2}promise: .*\n {2}known: C /m,
      );
      assert.match(
        failed.stdout,
        /^\d+ passed, 5 failed \(5 of them known defects\), 0 skipped; judged as 9\.0\.0, in/m,
      );
    });

    it('reports its progress in lines where there is no terminal', () => {
      const lines = failed.stderr.trimEnd().split('\n');
      assert.ok(lines.length >= 9 && lines.length <= 10, failed.stderr);
      for (const line of lines) assert.match(line, /^\d+ of \d+ checks made, \d+ failed$/);
      const all = String(written.results.length);
      assert.equal(lines.at(-1), `${all} of ${all} checks made, 5 failed`);
    });

    it('passes with --allow-known, if every failure is a known defect', () => {
      const one = ['--only', '*path-with-dots', '--quiet'];
      const allowed = conformance(...one, '--allow-known', '--', theirs);
      assert.deepEqual([allowed.status, allowed.stderr], [0, '']);
      assert.match(allowed.stdout, /1 failed \(1 of them known defects\)/);
      // Judged as another release, it has failures that are its dialect.
      const another = conformance('--only', 'admin', '--quiet', '--allow-known', '--dialect', '7.0.0', '--', theirs);
      assert.equal(another.status, 1, another.stdout);
    });

    it('writes JSON', () => {
      const { claims, generation, totals, results } = written;
      assert.deepEqual([claims, generation], ['9.0.0', '9.0.0']);
      assert.equal(totals.pass + totals.fail + totals.skip, results.length);
      const restrict = results.find(({ name }) => name === 'lockd/restrict-twice');
      assert.equal(restrict?.verdict, 'pass');
      assert.deepEqual(restrict.seen, restrict.expected);
      const dots = results.find(({ name }) => name.endsWith('a-path-with-dots'));
      assert.equal(dots?.verdict, 'fail');
      assert.match(dots.known ?? '', /two owners/);
    });

    it('writes JUnit', () => {
      const found = elements(readFileSync(file('junit'), 'utf8'));
      assert.equal(found.filter((path) => path === 'testsuites/testsuite/testcase').length, written.results.length);
      assert.equal(found.filter((path) => path.endsWith('/failure')).length, written.totals.fail);
    });

    it('prints TAP', () => {
      const { stdout, status } = conformance(...some, '--tap', '--', theirs);
      assert.equal(status, 1);
      const lines = stdout.trimEnd().split('\n');
      assert.deepEqual(lines.slice(0, 2), ['TAP version 14', '1..3']);
      const outside = lines.slice(2).filter((line) => !line.startsWith('  '));
      for (const line of outside) assert.match(line, /^(#|(not )?ok \d+ - [a-z/-]+$)/);
      assert.equal(outside.filter((line) => line.startsWith('not ok')).length, 1);
      assert.equal(lines.filter((line) => line === '  ---').length, 1);
    });

    it('is the same as was recorded of it, and differs from ours where ours is right', () => {
      const same = conformance('--only', 'ownership', '--against', '9.0.0', '--', theirs);
      assert.equal(same.status, 0, same.stdout);
      const other = conformance(...some, '--dialect', '9.0.0', '--against', ours, '--', theirs);
      assert.equal(other.status, 1, other.stderr);
      assert.match(other.stdout, /2 passed, 1 failed, 0 skipped; compared with/);
    });

    describe('as a page', () => {
      let browser: Browser;
      let page: Page;
      const errors: string[] = [];

      before(async function () {
        skipIf(this, existsSync(browserProgram) ? undefined : `no ${browserProgram} (package chromium)`);
        browser = await chromium.launch({ executablePath: browserProgram, args: ['--no-sandbox'] });
        page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
        page.on('pageerror', (error) => errors.push(error.message));
        page.on('console', (message) => {
          if (message.type() === 'error') errors.push(message.text());
        });
        page.on('request', (request) => {
          if (!request.url().startsWith('file:')) errors.push(`asks for ${request.url()}`);
        });
        writeFileSync(file('page.html'), readFileSync(file('html')));
        await page.goto(`file://${file('page.html')}`);
      });

      after(async () => {
        await (browser as Browser | undefined)?.close();
      });

      const shown = async (): Promise<number> => page.locator('.check').count();

      it('shows every check', async () => {
        assert.equal(await shown(), written.results.length);
      });

      it('shows those behind a cell, and all again', async () => {
        const cell = page.locator('#summary td.known button:not([disabled])');
        assert.equal(await cell.textContent(), '5');
        await cell.click();
        assert.equal(await shown(), 5);
        await page.locator('#summary td.chosen button').click();
        assert.equal(await shown(), written.results.length);
        for (const button of await page.locator('#summary button:not([disabled])').all()) {
          await button.click();
          assert.ok((await shown()) >= 0);
        }
        await page.locator('#summary button', { hasText: /^all$/ }).click();
        assert.equal(await shown(), written.results.length);
      });

      it('opens a check: promise, defect, and the differing lines marked on either side', async () => {
        await page.fill('#search', 'path-with-dots');
        assert.equal(await shown(), 1);
        await page.locator('.check > button').click();
        const detail = page.locator('.detail');
        assert.match((await detail.textContent()) ?? '', /Known defect: C gives one file/);
        assert.match((await detail.locator('td.minus').first().textContent()) ?? '', /b < REPLY lock 6 #1 ERROR/);
        assert.match((await detail.locator('td.plus').first().textContent()) ?? '', /ACQUIRE_RESOURCE: success/);
        const image = await page.screenshot({ path: join(directory, 'page.png') });
        assert.ok(image.length > 10_000);
        await page.locator('.check > button').click();
        assert.equal(await detail.count(), 0);
        await page.fill('#search', '');
      });

      it('opens every check without an error', async () => {
        await page.evaluate('for (const button of document.querySelectorAll(".check > button")) button.click()');
        assert.equal(await page.locator('.detail').count(), written.results.length);
        assert.deepEqual(errors, []);
      });
    });
  });

  describe('attached to a daemon that runs', () => {
    let daemon: LockDaemon;

    before(async function () {
      skipIf(this, missingDaemon('ours'));
      daemon = await startDaemon('ours');
      mkdirSync(join(daemon.lab.directory, 'files'));
    });

    after(async () => {
      await (daemon as LockDaemon | undefined)?.stop();
    });

    it('makes the checks that leave nothing behind, and says why not the others', () => {
      const before = daemon.locks().length;
      const where = ['--directory', join(daemon.lab.directory, 'files')];
      const { status, stdout } = conformance('--json', '-', ...where, '--attach', daemon.socket);
      const { results, totals } = JSON.parse(stdout) as Written;
      assert.equal(status, 0, stdout.slice(0, 2000));
      assert.ok(totals.pass >= 250 && totals.skip > 0);
      for (const { verdict, detail } of results) if (verdict === 'skip') assert.ok(detail !== undefined);
      assert.equal(daemon.process.finished, undefined);
      assert.equal(daemon.locks().length, before);
    });
  });

  it('checks the session daemon of an ordinary user', async function () {
    skipIf(this, missingDaemon('ours'));
    const lab = await openLab();
    try {
      const { code, stdout, stderr } = await lab.run(program, [...some, '--', ours], { ordinary: true });
      assert.equal(code, 0, stdout + stderr);
      assert.match(stdout, /3 passed, 0 failed/);
    } finally {
      await lab.close();
    }
  });
});
