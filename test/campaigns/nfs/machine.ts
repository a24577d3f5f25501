/** A virtual machine under plain emulation, which plays the scenes and prints facts as lines of JSON on its second serial line. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { factIn, type Fact } from './facts.ts';
import { bootFile, checkoutImage, START_PATH, systemImage } from './image.ts';
import type { Kernel } from './kernels.ts';
import type { SceneName } from './plan.ts';

/** MiB */
const MEMORY = 1536;
/** How much of the console is shown when the machine fails. */
const CONSOLE_LINES = 25;

export interface Progress {
  readonly onFact: (fact: Fact) => void;
  readonly signal: AbortSignal;
}

export interface Played {
  readonly facts: readonly Fact[];
  /** The end of the console, if the machine has not reported its end. */
  readonly console: string | undefined;
}

/**
 * Boots a machine with that kernel, and waits until it is off.
 * @param limit in seconds
 */
export async function play(
  kernel: Kernel,
  scenes: readonly SceneName[],
  limit: number,
  { onFact, signal }: Progress,
): Promise<Played> {
  const directory = mkdtempSync(join(tmpdir(), 'virtlockd-nfs-'));
  try {
    const system = await systemImage(kernel);
    const checkout = await checkoutImage(directory, { kernel, scenes });
    const consoleLog = join(directory, 'console.log');
    const machine = spawn('qemu-system-x86_64', argumentsFor(kernel, system, checkout, consoleLog), {
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
    return { facts, console: isWhole ? undefined : endOf(consoleLog) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function argumentsFor(kernel: Kernel, system: string, checkout: string, consoleLog: string): string[] {
  return [
    ...['-accel', 'tcg', '-cpu', 'max', '-m', String(MEMORY), '-smp', '2'],
    ...['-display', 'none', '-no-reboot', '-nodefaults'],
    ...['-kernel', bootFile(kernel, 'vmlinuz'), '-initrd', bootFile(kernel, 'initrd.img')],
    // An oops would leave the machine to its time limit.
    ...['-append', `root=/dev/vda rw console=ttyS0 panic=-1 oops=panic init=${START_PATH}`],
    // Whatever is written to the system's image is dropped at the end.
    ...['-drive', `file=${system},format=raw,if=virtio,snapshot=on`],
    ...['-drive', `file=${checkout},format=raw,if=virtio,readonly=on`],
    ...['-serial', `file:${consoleLog}`, '-serial', 'stdio'],
  ];
}

function endOf(file: string): string {
  try {
    return readFileSync(file, 'latin1').split('\n').slice(-CONSOLE_LINES).join('\n');
  } catch {
    return '';
  }
}
