/** A small matrix end to end, and its page in a real browser. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, type Page, chromium } from 'playwright-core';
import { judge } from '../../../../src/programs/interop/judgement.ts';
import { Results } from '../../../../src/programs/interop/matrix.ts';
import type { Check } from '../../../../src/programs/interop/model.ts';
import { page as makePage } from '../../../../src/programs/interop/page.ts';
import { Running } from '../../../../src/lab/process.ts';
import { missingDaemon, missingGuests } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { missingVirtAdmin } from '../../../../src/programs/interop/virt-admin.ts';

const browserProgram = '/usr/bin/chromium';
const missingBrowser = existsSync(browserProgram) ? undefined : `no ${browserProgram} (package chromium)`;

async function interop(...args: readonly string[]): ReturnType<Running['stop']> {
  const program = join(checkout, 'scripts/node');
  const child = spawn(program, [join(checkout, 'src/programs/interop/main.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return new Running(child, 'interop').exited;
}

/** A page with everything the browser complains about. */
async function open(browser: Browser, file: string): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => complaints.push(message.text()));
  await page.goto(pathToFileURL(file).href);
  return { page, complaints };
}

describe('npm run interop', function () {
  this.timeout(300_000);
  let directory: string;
  let browser: Browser;
  const small = (): string[] => [
    ...['--rows', 'ours,9.0.0', '--columns', 'ownership,libvirtd-9.0.0,virt-admin-9.0.0'],
    ...['--json', join(directory, 'interop.json'), '--html', join(directory, 'interop.html')],
  ];

  before(async function () {
    skipIf(
      this,
      missingDaemon('ours'),
      missingDaemon('9.0.0'),
      missingGuests(),
      missingVirtAdmin('9.0.0'),
      missingBrowser,
    );
    directory = mkdtempSync(join(realpathSync(tmpdir()), 'virtlockd-matrix-'));
    browser = await chromium.launch({ executablePath: browserProgram, args: ['--no-sandbox'] });
  });

  after(async () => {
    await (browser as Browser | undefined)?.close();
    if ((directory as string | undefined) !== undefined) rmSync(directory, { recursive: true, force: true });
  });

  it('runs the cells that are asked for: ours green, the C daemon with its known defects', async () => {
    const { code, stdout, stderr } = await interop(...small());
    assert.equal(code, 0, stdout + stderr);
    const { cells } = judge(new Results(join(directory, 'interop.json')).cells);
    const ran = cells.filter(({ cell }) => cell !== undefined);
    assert.deepEqual(
      ran.map(({ row, column, colour }) => `${row} ${column} ${colour}`),
      [
        '9.0.0 ownership red',
        '9.0.0 libvirtd-9.0.0 green',
        '9.0.0 virt-admin-9.0.0 green',
        'ours ownership green',
        'ours libvirtd-9.0.0 green',
        'ours virt-admin-9.0.0 green',
      ],
    );
    assert.ok(ran.every(({ passed }) => passed > 10));
  });

  it('does not run again what it knows', async () => {
    const { code, stdout } = await interop(...small());
    assert.equal(code, 0);
    assert.equal(stdout.match(/ \(as before\)$/gm)?.length, 6);
  });

  it('makes a page whose cells open on what is behind them', async () => {
    const { page, complaints } = await open(browser, join(directory, 'interop.html'));
    const cell = (title: string): ReturnType<Page['locator']> => page.locator(`#matrix button[title="${title}"]`);
    assert.equal(await page.locator('#matrix button').count(), 6);
    await cell('C 9.0.0 × ownership').click();
    assert.equal(await page.locator('#behind h2').textContent(), 'C 9.0.0 × ownership');
    const hardLink = page.locator('#behind details', { hasText: 'ownership/two-owners-one-file-a-hard-link' });
    assert.match((await hardLink.locator('summary').first().textContent()) ?? '', /^D\d+ /);
    if ((await hardLink.first().getAttribute('open')) === null) await hardLink.first().locator('summary').click();
    // Refused was expected, granted was seen.
    const differs = hardLink.first().locator('tr.differs').first();
    const [expected, seen] = [differs.locator('td').first(), differs.locator('td').last()];
    assert.match((await expected.textContent()) ?? '', /REPLY lock 6 #1 ERROR .*is locked/);
    assert.match((await expected.locator('.meaning').textContent()) ?? '', /^ACQUIRE_RESOURCE: .*is locked/);
    assert.equal(await seen.locator('.meaning').textContent(), 'ACQUIRE_RESOURCE: success');
    if (process.env.SCREENSHOT !== undefined) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
    for (const title of ['this daemon × ownership', 'this daemon × libvirtd 9.0.0', 'C 9.0.0 × virt-admin 9.0.0']) {
      await cell(title).click();
      assert.equal(await page.locator('#behind h2').textContent(), title);
      await page.locator('#behind summary', { hasText: /^\d+ passed$/ }).click();
      assert.ok((await page.locator('#behind ul.checks li').count()) > 10);
      assert.equal(await page.locator('#matrix button[aria-pressed=true]').count(), 1);
    }
    assert.deepEqual(complaints, []);
    await page.close();
  });

  it('shows hostile text harmlessly', async () => {
    const hostile = '</script><script>document.title="owned"</script><img src=x onerror=document.title=1>';
    const check: Check = { name: hostile, promise: hostile, verdict: 'fail', expected: [hostile], seen: ['seen'] };
    const cells = [
      { row: '9.0.0', column: 'wire', sides: [hostile], checks: [{ ...check, known: hostile }], seconds: 1 },
    ] as const;
    const file = join(directory, 'hostile.html');
    writeFileSync(file, makePage(judge(cells, ['9.0.0'], ['wire', 'lockd'])));
    const { page, complaints } = await open(browser, file);
    await page.locator('#matrix button.red').click();
    assert.equal(await page.locator('#behind summary code').first().textContent(), hostile);
    assert.equal(await page.locator('.lines td').first().textContent(), hostile);
    await page.locator('#matrix button.none').click();
    assert.match((await page.locator('#behind').textContent()) ?? '', /It was not run\./);
    assert.equal(await page.locator('img').count(), 0);
    assert.equal(await page.title(), 'virtlockd: which works with which');
    assert.deepEqual(complaints, []);
    await page.close();
  });

  it('has written down the whole matrix: this daemon without a failure, every other explained', () => {
    const text = readFileSync(join(checkout, 'docs/interop.md'), 'utf8');
    const lines = text.split('\n').filter((line) => /^\| (C \d|this daemon)/.test(line) && line.includes(' of '));
    assert.equal(lines.length, 15);
    assert.doesNotMatch(lines.join('\n'), /unexplained|not run|could not/);
    const own = lines.filter((line) => line.startsWith('| this daemon'));
    assert.equal(own.length, 3);
    assert.doesNotMatch(own.join('\n'), /\*\*/);
  });
});
