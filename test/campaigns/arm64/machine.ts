/** A virtual arm64 machine under plain emulation: Debian 12 with its systemd, which plays the steps of inside/main.ts. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { checkout } from '../../../src/lab/trees.ts';
import { type Fact, factIn } from './facts.ts';
import { armTree } from './package.ts';

const run = promisify(execFile);

/** Changes when the image must be made again from the same tree. */
const RECIPE = 'image 1';
/** MiB */
const MEMORY = 2048;
/** How much of the console is shown when the machine fails. */
const CONSOLE_LINES = 40;

/** Runs the steps, from the disk with the checkout, and turns the machine off. */
const UNIT = `[Unit]
Description=Steps of npm run arm64
After=multi-user.target systemd-udev-settle.service
Wants=systemd-udev-settle.service
[Service]
Type=oneshot
StandardOutput=journal+console
ExecStart=/bin/sh -c 'mkdir -p /checkout; mount -t ext4 -o ro /dev/vdb /checkout; exec /checkout/node /checkout/test/campaigns/arm64/inside/main.ts'
ExecStopPost=/bin/systemctl poweroff --force --force
TimeoutStartSec=infinity
`;

/** Units that take time and are not needed. */
const MASKED = [
  'serial-getty@ttyAMA0.service',
  'e2scrub_reap.service',
  'libvirtd.service',
  'libvirt-guests.service',
  'systemd-networkd-wait-online.service',
];

/** What of the checkout the steps need, beside the package and its runtime. */
const PARTS = ['package.json', 'src', 'xdr', 'test/campaigns/nfs/inside/rival.py', 'test/campaigns/arm64'];

async function makeFileSystem(file: string, mebibytes: number, directory: string): Promise<void> {
  await run('mkfs.ext4', ['-q', '-F', '-d', directory, '-E', 'lazy_itable_init=1', file, `${mebibytes}M`]);
}

/** Makes the image with Debian, unless there is one of the present tree. Returns its path. */
async function systemImage(): Promise<string> {
  const cache = dirname(armTree);
  const image = join(cache, 'arm64.img');
  const stamp = [RECIPE, UNIT, ...MASKED, readFileSync(join(armTree, '.virtlockd-lab'), 'utf8')].join('\n');
  const stampFile = `${image}.made-of`;
  if (existsSync(image) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return image;
  rmSync(stampFile, { force: true });
  // On the file system of the tree: the copy is made of hard links.
  const stage = mkdtempSync(join(cache, '.arm64-image-'));
  try {
    const root = join(stage, 'root');
    await run('cp', ['--archive', '--link', armTree, root]);
    rmSync(join(root, 'usr/sbin/policy-rc.d'), { force: true });
    const units = join(root, 'etc/systemd/system');
    for (const unit of MASKED) {
      rmSync(join(units, unit), { force: true });
      symlinkSync('/dev/null', join(units, unit));
    }
    writeFileSync(join(units, 'steps.service'), UNIT);
    mkdirSync(join(units, 'multi-user.target.wants'), { recursive: true });
    symlinkSync('/etc/systemd/system/steps.service', join(units, 'multi-user.target.wants/steps.service'));
    const made = join(stage, 'made.img');
    await makeFileSystem(made, 3072, root);
    renameSync(made, image);
    writeFileSync(stampFile, stamp);
    return image;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** An image with the package, its runtime, and the steps. */
async function checkoutImage(directory: string, packaged: string): Promise<string> {
  const stage = join(directory, 'checkout');
  for (const part of PARTS) {
    const to = join(stage, part);
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(checkout, part), to, { recursive: true, dereference: true });
  }
  cpSync(packaged, join(stage, 'package.deb'));
  const unpacked = join(directory, 'unpacked');
  await run('dpkg-deb', ['--extract', packaged, unpacked]);
  cpSync(join(unpacked, 'usr/lib/virtlockd-node/bin/node'), join(stage, 'node'));
  chmodSync(stage, 0o755);
  const image = join(directory, 'checkout.img');
  await makeFileSystem(image, 768, stage);
  for (const done of [stage, unpacked]) rmSync(done, { recursive: true });
  return image;
}

function bootFile(name: 'vmlinuz' | 'initrd.img'): string {
  const directory = join(armTree, 'boot');
  const file = readdirSync(directory).find((entry) => entry.startsWith(`${name}-`));
  if (file === undefined) throw new Error(`${directory} has no ${name}`);
  return join(directory, file);
}

export interface Played {
  readonly facts: readonly Fact[];
  /** The end of the console, if the machine has not reported its end. */
  readonly console: string | undefined;
}

/**
 * Boots the machine, and waits until it is off.
 * @param limit in seconds
 */
export async function playMachine(
  packaged: string,
  limit: number,
  signal: AbortSignal,
  onFact: (fact: Fact) => void,
): Promise<Played> {
  const directory = mkdtempSync(join(tmpdir(), 'virtlockd-arm64-'));
  try {
    const system = await systemImage();
    const image = await checkoutImage(directory, packaged);
    const consoleLog = join(directory, 'console.log');
    const machine = spawn('qemu-system-aarch64', argumentsFor(system, image, consoleLog), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const end = (): void => void machine.kill('SIGKILL');
    signal.addEventListener('abort', end);
    const late = setTimeout(end, limit * 1000);
    const facts: Fact[] = [];
    createInterface(machine.stdout).on('line', (line) => {
      const fact = factIn(line);
      if (fact === undefined) return;
      facts.push(fact);
      onFact(fact);
    });
    await once(machine, 'close');
    clearTimeout(late);
    signal.removeEventListener('abort', end);
    const isWhole = facts.some(({ is }) => is === 'done');
    const log = existsSync(consoleLog) ? readFileSync(consoleLog, 'latin1') : '';
    return { facts, console: isWhole ? undefined : log.split('\n').slice(-CONSOLE_LINES).join('\n') };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function argumentsFor(system: string, checkoutFile: string, consoleLog: string): string[] {
  return [
    ...['-machine', 'virt', '-accel', 'tcg,thread=multi', '-cpu', 'cortex-a72', '-m', String(MEMORY), '-smp', '2'],
    ...['-display', 'none', '-no-reboot', '-nodefaults'],
    ...['-kernel', bootFile('vmlinuz'), '-initrd', bootFile('initrd.img')],
    ...['-append', 'root=/dev/vda rw console=ttyAMA0 panic=-1 oops=panic quiet systemd.default_timeout_start_sec=600'],
    // Whatever is written to the system's image is dropped at the end.
    ...['-drive', `file=${system},format=raw,if=none,id=system,snapshot=on`, '-device', 'virtio-blk-pci,drive=system'],
    ...['-drive', `file=${checkoutFile},format=raw,if=none,id=checkout,readonly=on`],
    ...['-device', 'virtio-blk-pci,drive=checkout'],
    ...['-serial', `file:${consoleLog}`],
    ...[
      '-chardev',
      'stdio,id=facts',
      '-device',
      'virtio-serial-pci',
      '-device',
      'virtserialport,chardev=facts,name=facts',
    ],
  ];
}
