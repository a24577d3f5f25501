/** The page of `virt-lockctl serve`, in a real browser. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { eventually, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { checkout } from '../../../../src/lab/trees.ts';
import { lock, type Peer } from '../../../../src/lab/wire.ts';

const browserProgram = '/usr/bin/chromium';
const program = join(checkout, 'bin/virt-lockctl');
/** Markup, terminal escapes, lines, reversed text and bytes that are no UTF-8. */
const hostile = Buffer.concat([
  Buffer.from('<script>document.title="owned"</script><img src=x onerror=document.title=1>\x1b[2J\n\u202eevil'),
  Buffer.from([0xff, 0xfe]),
]);
const harmless =
  '<script>document.title="owned"</script><img src=x onerror=document.title=1>\\x1b[2J\\n\\u{202e}evil\\xff\\xfe';

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, unknown>;
}

async function get(address: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(address, { method, headers }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body, headers: response.headers });
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}

/** In the page: the texts with a contrast below 4.5:1 with the first ground behind them, as WCAG 2 computes it. */
const FAINT_TEXTS = `(() => {
  const channels = (color) => color.match(/[0-9.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = channels(color).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const ground = getComputedStyle(at).backgroundColor;
      if (channels(ground)[3] !== 0) return ground;
    }
    return 'rgb(255, 255, 255)';
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const faint = [];
  for (const element of document.body.querySelectorAll(':not(script)')) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== '');
    const pseudo = element.id === 'search' ? '::placeholder' : undefined;
    if (!hasText && pseudo === undefined) continue;
    const ratio = contrast(getComputedStyle(element, pseudo).color, groundOf(element));
    if (ratio < 4.5) faint.push(element.textContent + ' ' + ratio.toFixed(2));
  }
  return faint;
})()`;

describe('the page of virt-lockctl serve', function () {
  this.timeout(60_000);
  let daemon: LockDaemon;
  let server: Running;
  let address: string;
  let browser: Browser;
  let page: Page;
  let holder: Peer;
  const errors: string[] = [];
  const image = (name: string): string => join(daemon.lab.directory, name);

  before(async function () {
    skipIf(
      this,
      missingDaemon('ours'),
      existsSync(browserProgram) ? undefined : `no ${browserProgram} (package chromium)`,
    );
    daemon = await startDaemon('ours');
    server = daemon.lab.spawn(program, ['serve']);
    address = await eventually('the address is printed', () => /^http:\S+/m.exec(server.output)?.[0], 20_000);
    holder = await daemon.connect();
    browser = await chromium.launch({ executablePath: browserProgram, args: ['--no-sandbox'] });
    page = await browser.newPage();
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    await page.goto(address);
    await page.locator('#live.good', { hasText: /^live$/ }).waitFor();
  });

  after(async () => {
    await (browser as Browser | undefined)?.close();
    (holder as Peer | undefined)?.close();
    await (server as Running | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  const rows = (table: string, text: string): ReturnType<Page['locator']> =>
    page.locator(`#${table} tbody tr`, { hasText: text });

  it('explains its empty tables, and hides its own connections', async () => {
    assert.equal(await page.title(), `virtlockd on ${hostname()}`);
    assert.match(
      (await page.locator('#locks .none').textContent()) ?? '',
      /^No guest holds a lock\. libvirtd asks for one when/,
    );
    assert.match((await page.locator('#refusals .none').textContent()) ?? '', /QEMU checks the image before/);
    assert.equal(await rows('clients', 'virt-lockctl').count(), 0);
    assert.match((await page.locator('#clients h2').textContent()) ?? '', /without 2 connections of this page/);
  });

  it('shows a lock as it comes and goes', async () => {
    await holder.must(lock.register({ pid: 5_000_000, name: 'visible' }));
    writeFileSync(image('disk.img'), '');
    await holder.must(lock.acquire('', image('disk.img')));
    await rows('locks', 'disk.img').waitFor();
    assert.match((await rows('locks', 'disk.img').textContent()) ?? '', /^visible5000000/);
    await rows('clients', 'visible').waitFor();
    // Its owner is no process.
    await page.locator('#verdict', { hasText: /^(WARNING|ERROR): / }).waitFor();
    await page.locator('.finding.warning', { hasText: 'visible' }).waitFor({ timeout: 20_000 });
    await holder.must(lock.release('', image('disk.img')));
    await rows('locks', 'disk.img').waitFor({ state: 'detached' });
  });

  it('shows a refusal with who was in the way', async () => {
    await holder.must(lock.acquire('', image('disk.img')));
    const late = await daemon.connect();
    await late.must(lock.register({ pid: 5_000_001, name: 'latecomer' }));
    assert.equal((await late.ask(lock.acquire('', image('disk.img'))))?.code, 87);
    late.close();
    await rows('refusals', 'latecomer').waitFor();
    assert.match((await rows('refusals', 'latecomer').textContent()) ?? '', /visible \(pid 5000000\)/);
  });

  it('finds what is searched for', async () => {
    writeFileSync(image('other.img'), '');
    await holder.must(lock.acquire('', image('other.img')));
    await rows('locks', 'other.img').waitFor();
    await page.fill('#search', 'VISIBLE other');
    await rows('locks', 'disk.img').waitFor({ state: 'detached' });
    assert.equal(await rows('locks', 'other.img').count(), 1);
    assert.match((await page.locator('#locks h2').textContent()) ?? '', /1 of 2/);
    await page.fill('#search', 'nothing-like-this');
    await page.locator('#locks .none', { hasText: 'Nothing matches the search.' }).waitFor();
    await page.fill('#search', '');
    await rows('locks', 'disk.img').waitFor();
  });

  it('sorts by a heading, either way, and keeps the focus there', async () => {
    const resources = async (): Promise<string[]> =>
      (await page.locator('#locks tbody tr td:nth-child(3)').allTextContents()).map((text) => text.replace(/.*\//, ''));
    const heading = page.locator('#locks thead th', { hasText: 'Resource' });
    for (const [direction, wanted] of [
      ['ascending', ['disk.img', 'other.img']],
      ['descending', ['other.img', 'disk.img']],
    ] as const) {
      await heading.locator('button').press('Enter');
      await page.locator(`#locks th[aria-sort=${direction}]`, { hasText: 'Resource' }).waitFor();
      assert.deepEqual(await resources(), wanted);
      assert.equal(await page.evaluate('document.activeElement.textContent'), 'Resource');
    }
  });

  it('links to its sections, with counts', async () => {
    assert.deepEqual(await page.locator('nav a').allTextContents(), [
      'Locks 2',
      'Refusals 1',
      'Clients 1',
      'Lockspaces 1',
    ]);
    await page.locator('nav a', { hasText: 'Lockspaces' }).click();
    assert.match(page.url(), /#lockspaces$/);
  });

  it('says to a screen reader what its tables and messages are', async () => {
    for (const key of ['locks', 'refusals', 'clients', 'lockspaces']) {
      const table = page.getByRole('table', { name: /\.$/ }).and(page.locator(`#${key} table`));
      assert.equal(await table.count(), 1, `${key} has a caption`);
      assert.equal(await page.locator(`#${key} thead th:not([scope=col])`).count(), 0);
      assert.equal(await page.locator(`#${key} tbody th:not([scope=row])`).count(), 0);
      assert.notEqual(await page.locator(`#${key} tbody th`).count(), 0);
    }
    assert.equal(await page.locator('#live').getAttribute('aria-live'), 'polite');
    assert.equal(await page.locator('#failure').getAttribute('role'), 'alert');
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`has a contrast of 4.5:1 in ${colorScheme} mode`, async () => {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await page.evaluate(FAINT_TEXTS), []);
    });
  }

  for (const width of [360, 768, 1440]) {
    it(`fits into ${width} pixels, with each resource in sight`, async () => {
      await page.setViewportSize({ width, height: 800 });
      assert.ok(Number(await page.evaluate('document.documentElement.scrollWidth')) <= width, 'nothing sticks out');
      for (const cell of await page.locator('#locks td', { hasText: 'disk.img' }).all()) {
        const box = await cell.boundingBox();
        assert.ok(box !== null && box.x >= 0 && box.x + box.width <= width);
      }
      await page.setViewportSize({ width: 1280, height: 720 });
    });
  }

  it('shows a hostile name harmlessly, as do the terminal and the log', async () => {
    await holder.must(lock.register({ pid: 5_000_000, name: hostile }));
    writeFileSync(image('hostile.img'), '');
    await holder.must(lock.acquire('', image('hostile.img')));
    await rows('locks', 'hostile.img').waitFor();
    assert.equal(await rows('locks', 'hostile.img').locator('th').textContent(), harmless);
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.equal(await page.title(), `virtlockd on ${hostname()}`);

    const late = await daemon.connect();
    await late.must(lock.register({ pid: 5_000_001, name: 'latecomer' }));
    assert.equal((await late.ask(lock.acquire('', image('hostile.img'))))?.code, 87);
    late.close();
    for (const command of [['list'], ['who', image('hostile.img')], ['clients'], ['refusals'], ['list', '--json']]) {
      const { stdout } = await daemon.lab.run(program, command);
      // Beside the line ends of its own nothing that moves a cursor or turns text round.
      assert.doesNotMatch(Buffer.from(stdout, 'latin1').toString(), /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/, command[0]);
      if (command[1] !== '--json') assert.ok(stdout.includes(harmless), `${command[0] ?? ''}: ${stdout}`);
    }
    const lines = daemon.log.split('\n').filter((line) => line.includes('hostile.img'));
    assert.ok(lines.length > 0 && lines.every((line) => /Refused|is locked/.test(line)));
    assert.ok(daemon.log.includes(`held by VM "${harmless}" (pid 5000000)`));
    assert.ok(!daemon.log.includes('\x1b'));
  });

  it('is refused without its token, under another name, and changes nothing', async () => {
    const wrong = new URL(address);
    wrong.pathname = `/${'A'.repeat(32)}/`;
    assert.equal((await get(wrong.href)).status, 403);
    assert.equal((await get(new URL('/', address).href)).status, 403);
    assert.equal((await get(`${address}state`, { Host: 'evil.example' })).status, 403);
    assert.equal((await get(`${address}state`, {}, 'POST')).status, 405);
    assert.equal((await get(`${address}nothing`)).status, 404);
    const { status, headers } = await get(address);
    assert.equal(status, 200);
    assert.match(String(headers['content-security-policy']), /^default-src 'none'/);
    const other = await browser.newPage();
    assert.equal((await other.goto(wrong.href))?.status(), 403);
    await other.close();
  });

  it('goes on across a re-execution of the daemon, and says when it is gone', async () => {
    process.kill(daemon.pid, 'SIGUSR1');
    await page.locator('#status div', { hasText: /Restarts\s*1/ }).waitFor({ timeout: 20_000 });
    await rows('locks', 'other.img').waitFor();
    await daemon.process.stop();
    await page.locator('#failure', { hasText: 'virtlockd is not running' }).waitFor({ timeout: 20_000 });
    // Nothing looks alive above the tables, which are marked as old.
    assert.equal(await page.locator('#live').textContent(), 'the daemon does not answer');
    assert.equal(await page.locator('.good').count(), 0);
    assert.match(await page.title(), /^NOT LIVE: /);
    assert.match(
      (await page.locator('#failure').textContent()) ?? '',
      /The tables are from .*, and may be wrong by now\./,
    );
    assert.equal(await page.locator('body.stale').count(), 1);
    await page.locator('#verdict.error').waitFor();
    await rows('locks', 'other.img').waitFor();
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await page.evaluate(FAINT_TEXTS), []);
    }
    assert.deepEqual(errors, []);
    assert.equal((await server.stop()).code, 0);
    await page.locator('#live.bad', { hasText: 'virt-lockctl serve does not answer' }).waitFor({ timeout: 20_000 });
  });
});
