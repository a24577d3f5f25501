/**
 * A virtual machine of a campaign, under plain emulation: its disks, and its run from the start to the last fact. The campaign's programs in
 * it, of a folder `inside`, report facts, one line of JSON each, on whatever leads to QEMU's standard output.
 */
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
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { onPath } from '../../src/lab/requirements.ts';
import { checkout } from '../../src/lab/trees.ts';

const run = promisify(execFile);

/** In a finished tree: its recipe and its packages' versions (scripts/lab.sh). */
const STAMP = '.virtlockd-lab';
/** How much of the console is shown when the machine fails. */
const CONSOLE_LINES = 40;

/**
 * Why a machine cannot be made here, or undefined.
 * @param tools Debian's packages by the programs that are needed of them
 */
export function missingFor(tools: Readonly<Record<string, string>>, trees: readonly string[]): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  for (const [name, from] of Object.entries(tools)) {
    if (!onPath(name)) return `${name} is not installed (package ${from})`;
  }
  const unbuilt = trees.find((tree) => !existsSync(join(tree, STAMP)));
  return unbuilt === undefined ? undefined : `${unbuilt} is not built (scripts/lab.sh ${basename(unbuilt)})`;
}

/** The file of that name in /boot of a tree. @throws Error when there is none */
export function bootFile(tree: string, name: 'vmlinuz' | 'initrd.img'): string {
  const directory = join(tree, 'boot');
  const file = readdirSync(directory).find((entry) => entry.startsWith(`${name}-`));
  if (file === undefined) throw new Error(`${directory} has no ${name}`);
  return join(directory, file);
}

/** What is on a disk. */
interface Content {
  /** Of the disk, in MiB. */
  readonly size: number;
  /** Adds what the disk has beside the tree or the parts of the checkout. */
  readonly furnish: (directory: string) => unknown;
}

/** The disk with Debian, which is kept beside the trees and used again. */
export interface System extends Content {
  /** Of its file. */
  readonly name: string;
  /** Whose copy it is. `furnish` may replace and add files in the copy, and write into none: they are links. */
  readonly tree: string;
  /** Others from which `furnish` takes something. */
  readonly otherTrees?: readonly string[];
  /** Changes when the image must be made again from the same trees. */
  readonly recipe: string;
}

/** The disk with what the machine needs of the checkout. */
export interface Checkout extends Content {
  readonly parts: readonly string[];
}

async function makeFileSystem(file: string, { size }: Content, directory: string): Promise<void> {
  await run('mkfs.ext4', ['-q', '-F', '-d', directory, '-E', 'lazy_itable_init=1', file, `${size}M`]);
}

/** Makes the image, unless there is one of the present trees. Returns its path. */
async function systemImage(system: System): Promise<string> {
  const { name, tree, otherTrees = [], recipe, furnish } = system;
  const cache = dirname(tree);
  const image = join(cache, name);
  const stamp = [recipe, ...[tree, ...otherTrees].map((of) => readFileSync(join(of, STAMP), 'utf8'))].join('\n');
  const stampFile = `${image}.made-of`;
  if (existsSync(image) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return image;
  rmSync(stampFile, { force: true });
  // On the file system of the trees: the copy is made of hard links.
  const stage = mkdtempSync(join(cache, `.${name}-`));
  try {
    const root = join(stage, 'root');
    await run('cp', ['--archive', '--link', tree, root]);
    await furnish(root);
    const made = join(stage, 'made.img');
    await makeFileSystem(made, system, root);
    renameSync(made, image);
    writeFileSync(stampFile, stamp);
    return image;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

async function checkoutImage(directory: string, content: Checkout): Promise<string> {
  const stage = join(directory, 'checkout');
  for (const part of content.parts) {
    const to = join(stage, part);
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(checkout, part), to, { recursive: true, dereference: true });
  }
  await content.furnish(stage);
  chmodSync(stage, 0o755);
  const image = join(directory, 'checkout.img');
  await makeFileSystem(image, content, stage);
  rmSync(stage, { recursive: true });
  return image;
}

export interface Machine {
  /** QEMU's program. */
  readonly emulator: string;
  /** The options of QEMU: what it emulates, and what leads from the programs in the machine to its standard output. */
  readonly hardware: readonly string[];
  /** In MiB. */
  readonly memory: number;
  /** Ends when it powers itself off, and not when it is reset. */
  readonly bootsAgain?: boolean;
  /** The tree with the kernel. */
  readonly kernelTree: string;
  /** The first serial line, as the kernel names it. */
  readonly console: string;
  /** More words for the kernel. */
  readonly kernelWords: readonly string[];
  /** /dev/vda. Whatever is written to it is dropped at the end. */
  readonly system: System;
  /** /dev/vdb, to be read. */
  readonly checkout: Checkout;
}

function argumentsFor(machine: Machine, system: string, checkoutFile: string, consoleLog: string): string[] {
  const words = ['root=/dev/vda', 'rw', `console=${machine.console}`, 'panic=-1', 'oops=panic', ...machine.kernelWords];
  return [
    ...['-m', String(machine.memory), '-smp', '2', '-display', 'none', '-nodefaults'],
    ...(machine.bootsAgain === true ? [] : ['-no-reboot']),
    ...['-kernel', bootFile(machine.kernelTree, 'vmlinuz'), '-initrd', bootFile(machine.kernelTree, 'initrd.img')],
    // An oops would leave the machine to its time limit.
    ...['-append', words.join(' ')],
    ...['-drive', `file=${system},format=raw,if=virtio,snapshot=on`],
    ...['-drive', `file=${checkoutFile},format=raw,if=virtio,readonly=on`],
    ...['-serial', `file:${consoleLog}`],
    ...machine.hardware,
  ];
}

/** What a machine reports. Its last fact is `done`, unless it has not come to its end. */
interface AnyFact {
  readonly is: string;
}

/** Returns a function that finds the fact of one of these kinds in a line: undefined for anything else. */
export function factReader<F extends AnyFact>(kinds: readonly F['is'][]): (line: string) => F | undefined {
  return (line) => {
    try {
      const value = JSON.parse(line.trim()) as Partial<F> | null;
      return value?.is !== undefined && kinds.includes(value.is) ? (value as F) : undefined;
    } catch {
      return undefined;
    }
  };
}

export interface Played<F extends AnyFact> {
  readonly facts: readonly F[];
  /** The end of the console, if the machine has not come to its end. */
  readonly console: string | undefined;
}

export interface Progress<F extends AnyFact> {
  /** After so many seconds the machine is turned off. */
  readonly limit: number;
  /** So it is when this is aborted. */
  readonly signal: AbortSignal;
  readonly onFact: (fact: F) => void;
}

/** Boots a machine, and waits until it is off. */
export async function play<F extends AnyFact>(
  machine: Machine,
  factIn: (line: string) => F | undefined,
  { limit, signal, onFact }: Progress<F>,
): Promise<Played<F>> {
  const directory = mkdtempSync(join(tmpdir(), 'virtlockd-machine-'));
  try {
    const system = await systemImage(machine.system);
    const checkoutFile = await checkoutImage(directory, machine.checkout);
    const consoleLog = join(directory, 'console.log');
    const running = spawn(machine.emulator, argumentsFor(machine, system, checkoutFile, consoleLog), {
      // Nothing is written, but it stays open: at its end QEMU has the port seem to lead nowhere, and whoever writes into it waits for ever.
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const end = (): void => void running.kill('SIGKILL');
    signal.addEventListener('abort', end);
    const late = setTimeout(end, limit * 1000);
    const facts: F[] = [];
    createInterface(running.stdout).on('line', (line) => {
      const fact = factIn(line);
      if (fact === undefined) return;
      facts.push(fact);
      onFact(fact);
    });
    await once(running, 'close');
    clearTimeout(late);
    signal.removeEventListener('abort', end);
    const isWhole = facts.some(({ is }) => is === 'done');
    return { facts, console: isWhole ? undefined : endOf(consoleLog) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function endOf(file: string): string {
  try {
    return readFileSync(file, 'latin1').split('\n').slice(-CONSOLE_LINES).join('\n');
  } catch {
    return '';
  }
}
