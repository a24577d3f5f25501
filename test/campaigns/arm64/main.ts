/** `npm run arm64`: see options.ts. */
import { runCommand, terminated, writeReport } from '../command.ts';
import { type Played, play } from '../machine.ts';
import { type Checked, checkConformance, compare, countsOf } from './conformance.ts';
import { type Difference, emulationDifferences } from './emulation.ts';
import { type Fact, factIn, judge } from './facts.ts';
import { machineWith } from './machine.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { armPackage, missingForPart } from './package.ts';
import { playInUserMode } from './user.ts';

function lineOf(fact: Fact, words: boolean): string[] {
  switch (fact.is) {
    case 'begun':
      return [fact.step];
    case 'checked':
      return [`    ${fact.ok ? 'ok  ' : 'FAIL'} ${fact.what}`];
    case 'said':
      return words ? fact.text.split('\n').map((line) => `         | ${line}`) : [];
    case 'free':
      return [`         free for ${fact.ms} ms: ${fact.file}`];
    case 'broken':
      return [`    FAIL ${fact.error}`];
    case 'done':
      return [`${fact.kernel}: the locks were asked for ${fact.asked} times`];
  }
}

async function main({ parts, only, daemons, limit, words, json }: Options): Promise<number> {
  for (const part of parts) {
    const missing = missingForPart(part);
    if (missing !== undefined) throw new Error(missing);
  }
  const print = (lines: readonly string[]): void => {
    // At once: all of it takes long.
    if (json !== '-') for (const line of lines) process.stdout.write(`${line}\n`);
  };
  const signal = terminated();
  print(['building the package']);
  const packaged = armPackage();
  const onFact = (fact: Fact): void => {
    print(lineOf(fact, words));
  };
  let played: Played<Fact> | undefined;
  let differences: readonly Difference[] | undefined;
  let user: readonly Fact[] | undefined;
  let checked: Checked | undefined;
  if (parts.includes('machine')) {
    print(['booting the machine']);
    played = await play(machineWith(packaged), factIn, { limit, signal, onFact });
  }
  if (parts.some((part) => part !== 'machine') && !signal.aborted) {
    differences = await emulationDifferences();
    print(["QEMU's user mode does otherwise than the kernel:"]);
    print(differences.map(({ what, emulated }) => `    ${what}: ${emulated}`));
  }
  if (parts.includes('user') && !signal.aborted) user = await playInUserMode(packaged, onFact);
  if (parts.includes('conformance') && !signal.aborted) {
    checked = await checkConformance(packaged, { only, daemons }, signal, (text) => {
      if (json !== '-') process.stderr.write(text);
    });
  }
  const findings = [
    ...(played === undefined ? [] : judge(played.facts)),
    ...(user === undefined ? [] : judge(user)),
    ...(checked === undefined ? [] : compare(checked).map((name) => `fails on arm64: ${name}`)),
  ];
  const text = [
    ...(played?.console === undefined ? [] : ['the console of the machine:', played.console]),
    ...(checked === undefined
      ? []
      : daemons.map(
          (name) => `${name === 'own' ? "this daemon's checks" : "libvirt's"}: ${countsOf(checked.results[name])}`,
        )),
    ...findings.map((finding) => `FOUND ${finding}`),
    findings.length === 0 ? 'nothing was wrong' : `${findings.length} findings`,
  ];
  writeReport(
    { findings, machine: played, emulation: differences, user, conformance: checked },
    `${text.join('\n')}\n`,
    json,
  );
  return findings.length === 0 ? 0 : 1;
}

await runCommand('arm64', usage, parseOptions, main);
