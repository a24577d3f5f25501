/** `npm run nfs`: see options.ts. */
import { runCommand, terminated, writeReport } from '../command.ts';
import { play } from '../machine.ts';
import { type Fact, factIn } from './facts.ts';
import { type Finding, judge } from './judge.ts';
import type { Kernel } from './kernels.ts';
import { machineFor, missingVirtualMachine } from './machine.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { scenesOf } from './plan.ts';

interface Run {
  readonly kernel: Kernel;
  readonly seconds: number;
  readonly findings: readonly Finding[];
  /** The end of the console of a machine that has not come to its end. */
  readonly console: string | undefined;
  readonly facts: readonly Fact[];
}

function lineOf(fact: Fact, words: boolean): string[] {
  switch (fact.is) {
    case 'begun':
      return [fact.scene];
    case 'ended':
      return [`    in ${fact.seconds} s${fact.error === undefined ? '' : `, broken off: ${fact.error}`}`];
    case 'checked':
      return [`    ${fact.ok ? 'ok  ' : 'FAIL'} ${fact.what}`];
    case 'measured':
      return [`         ${fact.what}: ${fact.ms} ms`];
    case 'free':
      return [`         free for ${fact.ms} ms, during ${fact.during}: ${fact.file}`];
    case 'said':
      return words ? [`         ${fact.what}:`, ...fact.text.split('\n').map((line) => `           | ${line}`)] : [];
    case 'done':
      return [];
  }
}

function text(runs: readonly Run[]): string {
  const lines = runs.flatMap(({ kernel, seconds, findings, console }) => [
    `Linux ${kernel}: ${seconds} s`,
    ...(console === undefined ? [] : ['the machine has not come to its end:', console]),
    ...findings.map(({ kind, detail }) => `FOUND, ${kind}: ${detail}`),
    findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`,
  ]);
  return `${lines.join('\n')}\n`;
}

async function main({ kernels, versions, scenes, limit, words, json }: Options): Promise<number> {
  for (const kernel of kernels) {
    const missing = missingVirtualMachine(kernel);
    if (missing !== undefined) throw new Error(missing);
  }
  const signal = terminated();
  const runs: Run[] = [];
  for (const kernel of kernels) {
    const wanted = scenesOf(kernel, scenes, versions);
    if (wanted.length === 0 || signal.aborted) continue;
    if (json !== '-') process.stdout.write(`Linux ${kernel}\n`);
    const began = performance.now();
    const { facts, console } = await play(machineFor(kernel, wanted), factIn, {
      limit,
      signal,
      onFact: (fact) => {
        // At once: all scenes take long.
        if (json !== '-') for (const line of lineOf(fact, words)) process.stdout.write(`${line}\n`);
      },
    });
    const seconds = Math.round((performance.now() - began) / 1000);
    runs.push({ kernel, seconds, findings: judge(wanted, facts), console, facts });
  }
  writeReport({ runs }, text(runs), json);
  return runs.every(({ findings }) => findings.length === 0) ? 0 : 1;
}

await runCommand('nfs', usage, parseOptions, main);
