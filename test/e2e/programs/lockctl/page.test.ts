/** The page of `virt-lockctl serve`, in a real browser. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
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
    await page.locator('#live', { hasText: /^live$/ }).waitFor();
  });

  after(async () => {
    await (browser as Browser | undefined)?.close();
    (holder as Peer | undefined)?.close();
    await (server as Running | undefined)?.stop();
    await (daemon as LockDaemon | undefined)?.stop();
  });

  const rows = (table: string, text: string): ReturnType<Page['locator']> =>
    page.locator(`#${table} tbody tr`, { hasText: text });

  it('shows a lock as it comes and goes', async () => {
    await holder.must(lock.register({ pid: 5_000_000, name: 'visible' }));
    writeFileSync(image('disk.img'), '');
    await holder.must(lock.acquire('', image('disk.img')));
    await rows('locks', 'disk.img').waitFor();
    assert.match((await rows('locks', 'disk.img').textContent()) ?? '', /^visible5000000/);
    await rows('clients', 'visible').waitFor();
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
    await page.fill('#search', '');
    await rows('locks', 'disk.img').waitFor();
  });

  it('shows a hostile name harmlessly, as do the terminal and the log', async () => {
    await holder.must(lock.register({ pid: 5_000_000, name: hostile }));
    writeFileSync(image('hostile.img'), '');
    await holder.must(lock.acquire('', image('hostile.img')));
    await rows('locks', 'hostile.img').waitFor();
    assert.equal(await rows('locks', 'hostile.img').locator('td').first().textContent(), harmless);
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.equal(await page.title(), 'virtlockd');

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
    assert.deepEqual(errors, []);
    assert.equal((await server.stop()).code, 0);
  });
});
