/** `npm run etcd:watchdog`: see options.ts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdMember } from '../../../src/lab/etcd.ts';
import { runCommand, terminated, writeReport } from '../command.ts';
import { play } from '../machine.ts';
import { type Fact, factIn, type Reset } from './facts.ts';
import { type Finding, judge } from './judge.ts';
import { GATEWAY, machineFor, missingVirtualMachine } from './machine.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { Observer } from './observer.ts';

interface Run {
  readonly seconds: number;
  readonly findings: readonly Finding[];
  readonly resets: readonly Reset[];
  /** The end of the console of a machine that has not come to its end. */
  readonly console: string | undefined;
  readonly facts: readonly Fact[];
}

function lineOf(fact: Fact, words: boolean): string[] {
  switch (fact.is) {
    case 'booted':
      return [`Linux ${fact.kernel} with ${fact.device}`];
    case 'begun':
      return [fact.scene];
    case 'armed':
      return ['         is to be reset'];
    case 'ended':
      return fact.error === undefined ? [] : [`    broken off: ${fact.error}`];
    case 'checked':
      return [`    ${fact.ok ? 'ok  ' : 'FAIL'} ${fact.what}`];
    case 'said':
      return words ? [`         ${fact.what}:`, ...fact.text.split('\n').map((line) => `           | ${line}`)] : [];
    case 'done':
      return [];
  }
}

function resetLine({ byWatchdog, seconds, left }: Reset): string {
  const after = seconds === undefined ? '' : ` after ${seconds.toFixed(1)} s`;
  const lease =
    left === undefined ? 'etcd had given its lock up' : `etcd had its lock for ${left} to ${left + 1} s more`;
  return `         reset ${byWatchdog ? 'by the watchdog' : 'by itself'}${after}: ${lease}`;
}

function text({ seconds, findings, console }: Run): string {
  const lines = [
    `${seconds} s`,
    ...(console === undefined ? [] : ['the machine has not come to its end:', console]),
    ...findings.map(({ kind, detail }) => `FOUND, ${kind}: ${detail}`),
    findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`,
  ];
  return `${lines.join('\n')}\n`;
}

async function main({ scenes, limit, words, json }: Options): Promise<number> {
  const missing = missingVirtualMachine();
  if (missing !== undefined) throw new Error(missing);
  const print = (lines: readonly string[]): void => {
    // At once: all scenes take long.
    if (json !== '-') for (const line of lines) process.stdout.write(`${line}\n`);
  };
  const signal = terminated();
  const directory = mkdtempSync(join(tmpdir(), 'virtlockd-watchdog-'));
  const etcd = await EtcdMember.start();
  try {
    const began = performance.now();
    const monitor = join(directory, 'qmp');
    const endpoint = etcd.endpoint.replace('127.0.0.1', GATEWAY);
    const observer = new Observer(etcd, monitor, (reset) => {
      print([resetLine(reset)]);
    });
    const { facts, console } = await play(machineFor({ scenes, endpoint }, monitor), factIn, {
      limit,
      signal,
      onFact: (fact) => {
        observer.onFact(fact);
        print(lineOf(fact, words));
      },
    });
    await observer.end();
    const { resets } = observer;
    const seconds = Math.round((performance.now() - began) / 1000);
    const run = { seconds, findings: judge(scenes, facts, resets), resets, console, facts };
    writeReport(run, text(run), json);
    return run.findings.length === 0 ? 0 : 1;
  } finally {
    await etcd.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

await runCommand('etcd:watchdog', usage, parseOptions, main);
