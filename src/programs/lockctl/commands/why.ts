/** `why PATH`: what an acquire of it would meet now. Nothing is locked, created or changed to find out. */
import { accessSync, constants, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { AcquireFlag } from '../../../../xdr/programs/lock.ts';
import type { LockInfo } from '../../../../xdr/programs/inquire.ts';
import { type Context, toAbsolute, toBytes, toPath } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { Exit } from '../exit.ts';
import type { FileId } from '../../../proc/descriptors.ts';
import { fileId, findObstacle, findOutsiders } from '../kernel/holders.ts';
import { notEmpty } from '../not-empty.ts';
import { json, name, nameJson, owner, print, style } from '../output.ts';
import { locksOf, namesOf } from './who.ts';

interface Options {
  readonly shared?: true;
  readonly lockspace?: string;
  readonly autocreate?: true;
  readonly json?: true;
}

/** What would happen, and why. */
interface Verdict {
  readonly outcome: 'granted' | 'refused' | 'fails';
  readonly reasons: string[];
}

/** The kernel follows no more. */
const LINKS_MAX = 40;

export function addWhy(program: Command, context: Context): void {
  program
    .command('why')
    .description('say what an acquire of a file would meet now, and why')
    .argument(
      '<path>',
      'a path in the default lockspace, or with --lockspace a resource name in that one',
      notEmpty('the path'),
    )
    .option('--lockspace <directory>', "take the path for a resource's name in this lockspace")
    .option('--shared', 'ask for a shared lock')
    .option('--autocreate', 'create the file if it is missing')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExit status 1: it would be refused, or fail.')
    .action(async (given: string, options: Options) => {
      const verdict = await judge(context.daemon(), toBytes(given), options);
      if (options.json === true) print(json({ ...nameJson('path', toBytes(given)), ...verdict }, 2));
      else {
        const colour = verdict.outcome === 'granted' ? 'green' : 'red';
        const text = { granted: 'It would be granted', refused: 'It would be refused', fails: 'It would fail' };
        print(`${style(colour, text[verdict.outcome])}: ${verdict.reasons.join('\n  ')}`);
      }
      if (verdict.outcome !== 'granted') process.exitCode = Exit.NO;
    });
}

async function judge(daemon: InquireClient, given: ByteString, options: Options): Promise<Verdict> {
  const lockspace = toBytes(options.lockspace ?? '');
  const file = lockspace === '' ? toAbsolute(given) : `${lockspace}/${given}`;
  if (!(await daemon.answersInquiries())) {
    const { outcome, reasons } = judgeFile(file, options);
    return { outcome, reasons: [...reasons, 'This is a C daemon: what it holds itself shows as its process only.'] };
  }
  if (!(await daemon.lockspaces()).some(({ directory }) => directory === lockspace)) {
    return {
      outcome: 'fails',
      reasons: [
        `the daemon does not know the lockspace ${name(lockspace)}: create it ('virt-lockctl lockspace create'); the exact spelling counts.`,
      ],
    };
  }
  const locks = await locksOf(daemon, lockspace === '' ? namesOf(file) : [file]);
  const resource = lockspace === '' ? file : given;
  const named = locks.find((lock) => lock.lockspace === lockspace && lock.name === resource);
  // A name that is held counts, whatever file is there now; then the file does, by whatever name it is held.
  const own = named === undefined ? locks.filter(isOn(fileId(file))) : [named];
  if (own.length > 0) return judgeHeld(own, options);

  const verdict = judgeFile(file, options);
  const guard = locks.find((lock) => lock.lockspace !== '' && lock.path !== file);
  if (guard === undefined) return verdict;
  // libvirt would not lock the image itself then, but the file that stands for it.
  const { outcome, reasons } = judgeHeld([guard], options);
  return {
    outcome,
    reasons: [
      `in lockspace ${name(guard.lockspace)}, where this disk is locked: ${reasons.join(' ')}`,
      `the file itself: ${verdict.reasons.join(' ')}`,
    ],
  };
}

function isOn(file: FileId | null): (lock: LockInfo) => boolean {
  return ({ device, inode }) => device === file?.device && inode === file.inode;
}

/** @param locks on one file: exclusive there is only one */
function judgeHeld(locks: readonly LockInfo[], { shared }: Options): Verdict {
  const owners = locks.flatMap(({ holds }) => holds.map(({ owner: who }) => owner(who))).join(', ');
  const isShared = locks.every(({ flags }) => (flags & AcquireFlag.SHARED) !== 0);
  if (isShared && shared === true) return { outcome: 'granted', reasons: [`it is shared already, by ${owners}.`] };
  return {
    outcome: 'refused',
    reasons: [
      isShared
        ? `${owners} holds it, shared, and an exclusive lock was asked for.`
        : `${owners} holds it, exclusive, and that lock is exclusive.`,
    ],
  };
}

function judgeFile(file: ByteString, { shared, autocreate }: Options): Verdict {
  const shown = name(file);
  const { lock, failure } = findObstacle(file, shared === true);
  if (failure === 'ENOENT') {
    if (autocreate !== true)
      return { outcome: 'fails', reasons: [`there is no file ${shown}, and it is not to be created.`] };
    return judgeDirectory(path.dirname(followLinks(file)));
  }
  if (failure !== null) return { outcome: 'fails', reasons: [`${shown} cannot be opened (${failure}).`] };
  if (lock !== null) {
    const id = fileId(file);
    const outsiders = id === null ? [] : findOutsiders(id);
    const who =
      outsiders.length > 0
        ? outsiders.map(({ pid, program }) => `pid ${pid} (${name(program)})`).join(', ')
        : lock.pid > 0
          ? `pid ${lock.pid}`
          : 'another host, or a process with an OFD lock,';
    return { outcome: 'refused', reasons: [`${who} has a ${lock.access.toLowerCase()} lock on its first byte.`] };
  }
  if (statSync(toPath(file)).isDirectory()) return { outcome: 'fails', reasons: [`${shown} is a directory.`] };
  try {
    accessSync(toPath(file), constants.R_OK | constants.W_OK);
  } catch (error) {
    return {
      outcome: 'fails',
      reasons: [`${shown} cannot be written (${(error as NodeJS.ErrnoException).code ?? ''}).`],
    };
  }
  return { outcome: 'granted', reasons: [`nobody has a lock on ${shown} that would be in the way.`] };
}

/** What a link that leads nowhere stands for: that is what would be created. */
function followLinks(file: ByteString): ByteString {
  let end = file;
  for (let links = 0; links < LINKS_MAX; links++) {
    try {
      const to = readlinkSync(toPath(end), 'latin1');
      // Put together and no more: where `..` leads from another link, the kernel knows.
      end = to.startsWith('/') ? to : `${path.dirname(end)}/${to}`;
    } catch {
      break;
    }
  }
  return end;
}

function judgeDirectory(directory: ByteString): Verdict {
  const shown = name(directory);
  try {
    accessSync(toPath(directory), constants.W_OK | constants.X_OK);
  } catch (error) {
    return {
      outcome: 'fails',
      reasons: [`nothing can be created in ${shown} (${(error as NodeJS.ErrnoException).code ?? ''}).`],
    };
  }
  return { outcome: 'granted', reasons: [`the file would be created in ${shown}.`] };
}
