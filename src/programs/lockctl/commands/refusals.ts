/** `refusals`: the last refused acquires, each with the holder at that time. */
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import {
  cause,
  json,
  mode,
  name,
  type NotedRefusal,
  owner,
  print,
  refusalJson,
  style,
  table,
  time,
} from '../output.ts';

const HEADINGS = ['TIME', 'ASKED BY', 'MODE', 'RESOURCE', 'WHY'];

export function addRefusals(program: Command, context: Context): void {
  program
    .command('refusals')
    .description('list the last refused acquires, and why they were refused')
    .option('--json', 'print a JSON array')
    .action(async (options: { json?: true }) => {
      const refusals = await context.daemon().refusals();
      if (options.json === true) print(json(refusals.map(refusalJson), 2));
      else if (refusals.length === 0) print(style('dim', 'No refusal is on record.'));
      else print(table(HEADINGS, refusals.map(rowOf)));
    });
}

function rowOf(refusal: NotedRefusal): string[] {
  return [
    time(refusal.time),
    owner(refusal.owner),
    mode(refusal),
    name(refusal.lockspace === '' ? refusal.name : refusal.path),
    cause(refusal),
  ];
}
