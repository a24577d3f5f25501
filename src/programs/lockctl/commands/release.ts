/** `release --dead`: has the daemon release what dead owners hold. The daemon proves that they are dead: unknown is not dead. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import {
  type LockInfo,
  OwnerEnding,
  type OwnerInfo,
  OwnerLife,
  type OwnerState,
} from '../../../../xdr/programs/inquire.ts';
import { type Context, toBytes } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import type { InquireClient } from '../inquire-client.ts';
import { notEmpty } from '../not-empty.ts';
import { count, json, name, nameJson, owner, ownerJson, print, printText, style } from '../output.ts';
import { locksOf, namesOf } from './who.ts';

interface Options {
  readonly dead: true;
  readonly local?: true;
  readonly yes?: true;
  readonly json?: true;
}

/** The holds of one owner that are to be released. */
interface Step {
  readonly owner: OwnerInfo;
  readonly state: OwnerState | undefined;
  /** Null: all locks of the owner. */
  readonly lock: LockInfo | null;
  readonly paths: readonly ByteString[];
}

export function addRelease(program: Command, context: Context): void {
  program
    .command('release')
    .description('release the locks of owners that are dead')
    .argument('[path]', 'only the locks of this file, under any name', notEmpty('the path'))
    .requiredOption('--dead', 'only what dead owners hold: the daemon proves that, and releases nothing in doubt')
    .option(
      '--local',
      'also where no process has the pid of an owner that a C daemon handed on without its pid namespace: it is this one',
    )
    .option('-y, --yes', 'do not ask')
    .option('--json', 'print JSON; needs --yes')
    .addHelpText(
      'after',
      '\nThe daemon logs each release.\nExit status 1: an owner of the file is not dead, or you did not agree.',
    )
    .action(async (given: string | undefined, options: Options) => {
      if (options.json === true && options.yes !== true) throw new CommandError(Exit.USAGE, '--json needs --yes');
      process.exitCode = await release(context, given === undefined ? null : toBytes(given), options);
    });
}

async function release(context: Context, given: ByteString | null, options: Options): Promise<number> {
  const daemon = context.daemon();
  const all = given === null ? await stepsOfAll(daemon) : await stepsOf(daemon, given);
  const isLocal = options.local === true;
  const dead = all.filter(({ state }) => isDead(state, isLocal));
  const doubtful = all.filter((step) => !dead.includes(step));
  if (options.json !== true) for (const step of doubtful) print(style('yellow', doubtText(step)));
  if (dead.length === 0) {
    if (options.json === true) print(json({ released: 0, owners: [] }, 2));
    else print(given === null ? 'No owner is dead.' : `No dead owner holds ${name(given)}.`);
    return given !== null && all.length > 0 ? Exit.NO : Exit.OK;
  }
  if (options.json !== true) for (const step of dead) print(stepText(step));
  if (options.yes !== true && !(await confirm(dead.length))) {
    print('Nothing was released.');
    return Exit.NO;
  }
  const released: { readonly step: Step; readonly holds: number }[] = [];
  for (const step of dead) released.push({ step, holds: await daemon.releaseDead(step.owner.pid, step.lock, isLocal) });
  const sum = released.reduce((total, { holds }) => total + holds, 0);
  if (options.json === true) {
    const owners = released.map(({ step, holds }) => ({
      ...ownerJson(step.owner),
      released: holds,
      ...(step.lock === null ? {} : nameJson('path', step.lock.path)),
    }));
    print(json({ released: sum, owners }, 2));
  } else
    print(
      `Released ${count(sum, 'lock')} of ${count(new Set(dead.map(({ owner: who }) => who.pid)).size, 'dead owner')}.`,
    );
  return doubtful.length > 0 ? Exit.NO : Exit.OK;
}

/** Dead owners, each with all its locks. */
async function stepsOfAll(daemon: InquireClient): Promise<Step[]> {
  const steps: Step[] = [];
  for (const state of await ownersOf(daemon, null)) {
    if (!isDead(state, true)) continue;
    const { owner: who } = state;
    const locks = await daemon.locks({ pid: who.pid });
    const own = locks.filter(({ holds }) => holds.some(({ owner: holder }) => isSame(holder, who)));
    steps.push({ owner: who, state, lock: null, paths: own.map(({ path }) => path) });
  }
  return steps;
}

/** Every owner of a file. */
async function stepsOf(daemon: InquireClient, given: ByteString): Promise<Step[]> {
  const steps: Step[] = [];
  for (const lock of await locksOf(daemon, await namesOf(given))) {
    for (const { owner: who } of lock.holds) {
      const state = (await ownersOf(daemon, who.pid)).find(({ owner: known }) => isSame(known, who));
      steps.push({ owner: who, state, lock, paths: [lock.path] });
    }
  }
  return steps;
}

async function ownersOf(daemon: InquireClient, pid: number | null): Promise<OwnerState[]> {
  const owners = await daemon.owners(pid);
  if (owners !== null) return owners;
  throw new CommandError(
    Exit.UNSUPPORTED,
    'this release of the daemon cannot release the locks of dead owners: upgrade it',
  );
}

function isSame(one: OwnerInfo, other: OwnerInfo): boolean {
  return one.pid === other.pid && one.id === other.id && one.name === other.name && one.uuid === other.uuid;
}

function isDead(state: OwnerState | undefined, isLocal: boolean): boolean {
  if (state === undefined || state.ending === OwnerEnding.BEGUN) return false;
  return state.life === OwnerLife.DEAD || (isLocal && state.life === OwnerLife.ABSENT);
}

function doubtText({ owner: who, state }: Step): string {
  const reason =
    state?.ending === OwnerEnding.BEGUN
      ? 'is ending: the daemon releases its locks once its process is gone'
      : state?.life === OwnerLife.ALIVE
        ? 'is alive'
        : state?.life === OwnerLife.ABSENT
          ? 'has no process here, but its pid may be of another pid namespace; if you know that it is not, add --local'
          : 'may be alive: its process is not known';
  return `Not released: ${owner(who)} ${reason}.`;
}

/** So many paths are printed. */
const PATHS_SHOWN = 5;

function stepText({ owner: who, paths }: Step): string {
  const more = paths.length > PATHS_SHOWN ? `, and ${paths.length - PATHS_SHOWN} more` : '';
  return `${owner(who, true)}: ${count(paths.length, 'lock')}: ${paths.slice(0, PATHS_SHOWN).map(name).join(', ')}${more}`;
}

/** No answer is no. */
async function confirm(owners: number): Promise<boolean> {
  printText(`Release what ${owners === 1 ? 'this owner holds' : 'these owners hold'}? [y/N] `);
  const lines = createInterface({ input: process.stdin });
  try {
    const answer = await new Promise<string>((resolve) => {
      lines.once('line', resolve);
      lines.once('close', () => resolve(''));
    });
    return /^y(?:es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}
