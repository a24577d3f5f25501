/**
 * `npm run readme`: makes README's session and the pictures of the page, as root, with a real libvirtd and guests below QEMU in a
 * root of their own. The session goes into README.md, its picture to docs/pictures; build/pictures gets the page on three widths, in both
 * modes, and as it is when the daemon has died.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { guestXml } from '../src/lab/guest.ts';
import { Libvirtd } from '../src/lab/libvirtd.ts';
import { eventually, type Running } from '../src/lab/process.ts';
import type { Lab } from '../src/lab/root.ts';
import { type LockDaemon, startDaemon } from '../src/lab/start.ts';
import { checkout, openLab } from '../src/lab/trees.ts';

const IMAGES = '/var/lib/libvirt/images';
const TARGET = '/var/lib/libvirt';
const BROWSER = '/usr/bin/chromium';

/** A host on which guest db runs under libvirt's own daemon; db-copy is defined with the same lease. */
export class Host {
  readonly lab: Lab;
  readonly daemon: LockDaemon;
  private readonly libvirtd: Libvirtd;
  private readonly tools: Running[] = [];

  private constructor(lab: Lab, daemon: LockDaemon) {
    this.lab = lab;
    this.daemon = daemon;
    this.libvirtd = new Libvirtd(lab);
  }

  static async open(): Promise<Host> {
    const lab = await openLab();
    const host = new Host(lab, await startDaemon('9.0.0', { lab }));
    try {
      await host.libvirtd.start();
      await host.must(`mkdir -p ${IMAGES}; virt-lockctl lease create ${TARGET}/leases db`);
      for (const name of ['db', 'db-copy', 'web', 'mail']) await host.define(name);
      for (const name of ['db', 'web', 'mail']) await host.must(`virsh start ${name}`);
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  async close(): Promise<void> {
    for (const tool of this.tools) await tool.stop();
    await this.libvirtd.stop();
    await this.daemon.stop();
    await this.lab.close();
  }

  /** Runs a command as an operator would, and returns its exit status and what it prints. */
  async shell(command: string): Promise<{ code: number | null; text: string }> {
    const env = { PATH: `${checkout}/bin:/usr/sbin:/usr/bin:/sbin:/bin` };
    const { code, stdout } = await this.lab.run('sh', ['-c', `{ ${command}\n} 2>&1`], { env });
    return { code, text: stdout };
  }

  private async must(command: string): Promise<void> {
    const { code, text } = await this.shell(command);
    if (code !== 0) throw new Error(`${command}: ${text}`);
  }

  /** Serves the page, and returns its address. */
  async serve(): Promise<string> {
    const tool = this.lab.spawn(path.join(checkout, 'bin/virt-lockctl'), ['serve']);
    this.tools.push(tool);
    return eventually('the address is printed', () => /^http:\S+/m.exec(tool.output)?.[0], 20_000);
  }

  private async define(name: string): Promise<void> {
    const image = `${IMAGES}/${name}.img`;
    const leases = name.startsWith('db') ? [{ lockspace: 'leases', key: 'db', target: TARGET }] : [];
    this.lab.write(`/root/${name}.xml`, guestXml({ name, disks: [{ image }], leases }));
    await this.must(`truncate --size 1M ${image} && virsh define /root/${name}.xml`);
  }
}

/** The commands of the session, each with what it prints. */
export async function session(host: Host): Promise<string> {
  const commands = [
    'virt-lockctl swap --to node | tail -n 1',
    'virsh start db-copy',
    `virt-lockctl who ${TARGET}/leases/db`,
    'virt-lockctl refusals',
  ];
  let text = '';
  for (const command of commands) text += `# ${command}\n${(await host.shell(command)).text.trimEnd()}\n`;
  return text;
}

const BEGIN = '<!-- session: npm run readme -->\n\n```console\n';
const END = '```\n';

/** README's session as it is printed there. */
export function printedSession(readme: string): string {
  const start = readme.indexOf(BEGIN);
  if (start < 0) throw new Error('README.md has no session');
  return readme.slice(start + BEGIN.length, readme.indexOf(END, start + BEGIN.length));
}

async function takePictures(host: Host, browser: Browser): Promise<void> {
  const pictures = path.join(checkout, 'docs/pictures');
  const others = path.join(checkout, 'build/pictures');
  for (const directory of [pictures, others]) mkdirSync(directory, { recursive: true });
  const page = await browser.newPage();
  const take = async (
    file: string,
    width: number,
    colorScheme: 'light' | 'dark',
    target: Page = page,
  ): Promise<void> => {
    await target.emulateMedia({ colorScheme });
    await target.setViewportSize({ width, height: width < 500 ? 1400 : 700 });
    await target.screenshot({ path: file });
  };
  await page.goto(await host.serve());
  await page.locator('#refusals tbody tr').waitFor();
  await take(path.join(pictures, 'page.png'), 1200, 'light');
  for (const width of [360, 768, 1440]) {
    for (const mode of ['light', 'dark'] as const)
      await take(path.join(others, `page-${width}-${mode}.png`), width, mode);
  }
  await host.daemon.process.stop('SIGKILL');
  await page.locator('body.stale').waitFor();
  for (const width of [360, 1440]) await take(path.join(others, `dead-${width}.png`), width, 'light');
}

async function main(): Promise<void> {
  const host = await Host.open();
  const browser = await chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox'] });
  try {
    const text = await session(host);
    const file = path.join(checkout, 'README.md');
    const readme = readFileSync(file, 'utf8');
    // A function, because of the dollar signs that a text may have.
    writeFileSync(
      file,
      readme.replace(BEGIN + printedSession(readme) + END, () => BEGIN + text + END),
    );
    console.log(text);
    await takePictures(host, browser);
  } finally {
    await browser.close();
    await host.close();
  }
}

if (process.argv[1] === import.meta.filename) await main();
