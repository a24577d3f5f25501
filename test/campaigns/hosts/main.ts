/** `npm run hosts`: see options.ts. */
import { missingDaemon, missingGluster, missingGuests } from '../../../src/lab/requirements.ts';
import { type Place, TwoHosts } from '../../support/two-hosts.ts';
import { runCommand, writeReport } from '../command.ts';
import { type Difference, differences, record, recorded } from './compare.ts';
import { nameOfPair, type Options, parseOptions, usage } from './options.ts';
import { type Outcome, type Pair, play } from './scene.ts';

interface SceneReport {
  readonly pair: string;
  readonly place: Place;
  readonly round: number;
  readonly seconds: number;
  readonly outcomes: readonly Outcome[];
  readonly differences: readonly Difference[];
}

function text(reports: readonly SceneReport[]): string {
  const lines = reports.flatMap(({ pair, place, round, seconds, outcomes, differences: found }) => [
    `${pair}, ${place}, round ${round}: ${outcomes.length} steps in ${seconds} s, ${found.length === 0 ? 'all as with C' : `${found.length} not as with C`}`,
    ...found.flatMap(({ step, outcome, expected }) => [
      `  ${step}: ${JSON.stringify(outcome)}`,
      `    with C: ${JSON.stringify(expected)}`,
    ]),
  ]);
  return `${lines.join('\n')}\n`;
}

async function main(options: Options): Promise<number> {
  const missing = missingDaemon('ours') ?? missingDaemon('9.0.0') ?? missingGuests() ?? missingGluster();
  if (missing !== undefined) throw new Error(missing);
  const reports: SceneReport[] = [];
  const hosts = await TwoHosts.open();
  const playOne = async (pair: Pair, place: Place, round: number): Promise<void> => {
    const began = performance.now();
    const name = nameOfPair(pair);
    const onStep = (step: string): void => {
      if (process.stderr.isTTY) process.stderr.write(`\r${name}, ${place}, round ${round}: ${step}\x1b[K`);
    };
    const outcomes = await play(hosts, { pair, place, restarts: options.restarts, onStep });
    if (options.record) record(place, outcomes);
    const seconds = Math.round((performance.now() - began) / 1000);
    reports.push({ pair: name, place, round, seconds, outcomes, differences: differences(outcomes, recorded(place)) });
  };
  try {
    for (let round = 1; round <= options.rounds; round++)
      for (const place of options.places) for (const pair of options.pairs) await playOne(pair, place, round);
  } finally {
    await hosts.close();
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  writeReport(reports, text(reports), options.json);
  return reports.every((report) => report.differences.length === 0) ? 0 : 1;
}

await runCommand('hosts', usage, parseOptions, main);
