/** `refusals`: the last acquires that were refused, and who was in the way. */
import type { Command } from 'commander';
import type { RefusalInfo } from '../../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import { cause, json, mode, name, owner, print, refusalJson, style, table, time } from '../output.ts';

const HEADINGS = ['TIME', 'ASKED BY', 'MODE', 'RESOURCE', 'WHY'];

export function addRefusals(program: Command, context: Context): void {
  program
    .command('refusals')
    .description('list the last acquires that were refused, and why')
    .option('--json', 'one JSON array')
    .action(async (options: { json?: true }) => {
      const refusals = await context.daemon().refusals();
      if (options.json === true) print(json(refusals.map(refusalJson), 2));
      else if (refusals.length === 0) print(style('dim', 'Nothing was refused that this daemon remembers.'));
      else print(table(HEADINGS, refusals.map(rowOf)));
    });
}

function rowOf(refusal: RefusalInfo): string[] {
  return [
    time(refusal.time),
    owner(refusal.owner),
    mode(refusal),
    name(refusal.lockspace === '' ? refusal.name : refusal.path),
    cause(refusal),
  ];
}
