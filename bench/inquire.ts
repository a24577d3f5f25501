/**
 * `npm run bench:inquire`: fills a daemon with 100 000 locks, and measures how long `virt-lockctl list --json`, `who` and `check`
 * take, and how long another client waits for its answers during that time.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { lockProgram } from '../xdr/programs/lock.ts';
import { checkout, ManyLocks, NAMES, Prober } from './many-locks.ts';
import { short, shortSpread, spread } from './report.ts';

const LOCKS = Number(process.env.LOCKS ?? 100_000);
const ROUNDS = Number(process.env.ROUNDS ?? 5);

const locks = new ManyLocks();

/** Runs a program of the checkout. Returns the milliseconds until its end and the bytes that it printed. */
async function measure(program: string, args: readonly string[]): Promise<{ ms: number; bytes: number }> {
  const begin = performance.now();
  const child = spawn(path.resolve(checkout, program), args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let bytes = 0;
  child.stdout.on('data', (chunk: Buffer) => (bytes += chunk.length));
  await once(child, 'close');
  return { ms: performance.now() - begin, bytes };
}

/** A program of the checkout with its arguments. */
type Load = readonly [string, readonly string[]];

const tool = (...args: readonly string[]): Load => ['bin/virt-lockctl', ['--connect', locks.sockets, ...args]];

/** Runs each load several times, and prints a line. With a prober, also its longest wait during the load. */
async function report(loads: Readonly<Record<string, Load>>, prober?: Prober): Promise<void> {
  for (const [what, [program, args]] of Object.entries(loads)) {
    const times: number[] = [];
    const waits: number[] = [];
    let bytes = 0;
    for (let round = 0; round < ROUNDS; round++) {
      prober?.take();
      const result = await measure(program, args);
      ({ bytes } = result);
      times.push(result.ms);
      waits.push(prober?.take() ?? 0);
    }
    const wait = prober === undefined ? '' : `, longest wait ${shortSpread(spread(waits))} ms`;
    process.stdout.write(`${what.padEnd(28)} ${short(spread(times).median).padStart(6)} ms${wait}, ${bytes} bytes\n`);
  }
}

try {
  const many = await locks.fill(LOCKS);
  const single = path.join(locks.images, 'disk-of-its-own.img');
  writeFileSync(single, '');
  const holder = await locks.connect(4_999_998);
  await holder.call(lockProgram, 'acquireResource', { path: '', name: single, flags: 0 });
  holder.close();
  const script = path.join(locks.root, 'empty.cjs');
  writeFileSync(script, '');
  process.stdout.write(`${LOCKS} locks\n\nNobody else calls:\n`);
  await report({
    'an empty script': [process.execPath, [script]],
    'who (a disk)': tool('who', single),
  });
  const client = await locks.connect(4_999_999);
  const prober = new Prober(client, path.join(locks.images, 'probe'));
  await pause(500);
  prober.take();
  await pause(2000);
  process.stdout.write('\nBeside a client that calls without pause:\n');
  process.stdout.write(`${'nothing'.padEnd(28)} ${''.padStart(7)}      longest wait ${short(prober.take())} ms\n`);
  const loads = {
    'an empty script': [process.execPath, [script]],
    'list --json': tool('list', '--json'),
    'who (a disk)': tool('who', single),
    [`who (a disk of ${NAMES} names)`]: tool('who', many),
    'who (nothing)': tool('who', '/none'),
    'list --vm': tool('list', '--vm', 'guest5000042'),
    'why (a disk)': tool('why', single),
    'clients --locks --json': tool('clients', '--locks', '--json'),
    refusals: tool('refusals'),
    metrics: tool('metrics'),
    status: tool('status'),
    check: tool('check'),
  } satisfies Record<string, Load>;
  await report(loads, prober);
  await prober.stop();
  client.close();
} finally {
  await locks.stop();
}
