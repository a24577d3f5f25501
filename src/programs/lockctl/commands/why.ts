/** `why PATH`: predicts whether an acquire would succeed now. Takes no lock, and creates nothing. */
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

interface Verdict {
  readonly outcome: 'granted' | 'refused' | 'fails';
  readonly reasons: string[];
}

/** The kernel's limit. */
const LINKS_MAX = 40;

export function addWhy(program: Command, context: Context): void {
  program
    .command('why')
    .description('predict whether locking a file would succeed now, and why not')
    .argument('<path>', 'a path; with --lockspace, the name of a resource', notEmpty('the path'))
    .option('--lockspace <directory>', 'the lockspace of the resource')
    .option('--shared', 'for a shared lock')
    .option('--autocreate', 'for a lock that creates a missing file')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nTakes no lock. Exit status 1: it would be refused, or fail.')
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
    return {
      outcome,
      reasons: [...reasons, "This is libvirt's C daemon: its locks show its pid only, not the guest."],
    };
  }
  if (!(await daemon.lockspaces()).some(({ directory }) => directory === lockspace)) {
    return {
      outcome: 'fails',
      reasons: [
        `the daemon has no lockspace ${name(lockspace)}: create it with this exact spelling ('virt-lockctl lockspace create').`,
      ],
    };
  }
  const locks = await locksOf(daemon, lockspace === '' ? namesOf(file) : [file]);
  const resource = lockspace === '' ? file : given;
  const named = locks.find((lock) => lock.lockspace === lockspace && lock.name === resource);
  // A held name counts first, whatever file it names now; then a file that is held under any name.
  const own = named === undefined ? locks.filter(isOn(fileId(file))) : [named];
  if (own.length > 0) return judgeHeld(own, options);

  const verdict = judgeFile(file, options);
  const guard = locks.find((lock) => lock.lockspace !== '' && lock.path !== file);
  if (guard === undefined) return verdict;
  // With an indirect lockspace, libvirt locks the file that stands for the image.
  const { outcome, reasons } = judgeHeld([guard], options);
  return {
    outcome,
    reasons: [
      `in lockspace ${name(guard.lockspace)}, which guards this disk: ${reasons.join(' ')}`,
      `the file itself: ${verdict.reasons.join(' ')}`,
    ],
  };
}

function isOn(file: FileId | null): (lock: LockInfo) => boolean {
  return ({ device, inode }) => device === file?.device && inode === file.inode;
}

/** @param locks on one file: one exclusive lock, or shared ones */
function judgeHeld(locks: readonly LockInfo[], { shared }: Options): Verdict {
  const owners = locks.flatMap(({ holds }) => holds.map(({ owner: who }) => owner(who))).join(', ');
  const isShared = locks.every(({ flags }) => (flags & AcquireFlag.SHARED) !== 0);
  if (isShared && shared === true) return { outcome: 'granted', reasons: [`shared with ${owners}.`] };
  return { outcome: 'refused', reasons: [`${owners} holds ${isShared ? 'a shared' : 'an exclusive'} lock.`] };
}

function judgeFile(file: ByteString, { shared, autocreate }: Options): Verdict {
  const shown = name(file);
  const { lock, failure } = findObstacle(file, shared === true);
  if (failure === 'ENOENT') {
    if (autocreate !== true) return { outcome: 'fails', reasons: [`there is no file ${shown}.`] };
    return judgeDirectory(path.dirname(followLinks(file)));
  }
  if (failure !== null) return { outcome: 'fails', reasons: [`cannot open ${shown} (${failure}).`] };
  if (lock !== null) {
    const id = fileId(file);
    const outsiders = id === null ? [] : findOutsiders(id);
    const who =
      outsiders.length > 0
        ? outsiders.map(({ pid, program }) => `pid ${pid} (${name(program)})`).join(', ')
        : lock.pid > 0
          ? `pid ${lock.pid}`
          : 'another host, or a process with an OFD lock,';
    return { outcome: 'refused', reasons: [`${who} holds a ${lock.access.toLowerCase()} lock.`] };
  }
  if (statSync(toPath(file)).isDirectory()) return { outcome: 'fails', reasons: [`${shown} is a directory.`] };
  try {
    accessSync(toPath(file), constants.R_OK | constants.W_OK);
  } catch (error) {
    return { outcome: 'fails', reasons: [`cannot write to ${shown} (${codeOf(error)}).`] };
  }
  return { outcome: 'granted', reasons: [`no lock on ${shown} is in the way.`] };
}

/** The path to which a dangling link leads: the file that would be created. */
function followLinks(file: ByteString): ByteString {
  let end = file;
  for (let links = 0; links < LINKS_MAX; links++) {
    try {
      const to = readlinkSync(toPath(end), 'latin1');
      // Not normalized: only the kernel knows where `..` leads behind another link.
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
    return { outcome: 'fails', reasons: [`cannot create a file in ${shown} (${codeOf(error)}).`] };
  }
  return { outcome: 'granted', reasons: [`the file would be created in ${shown}.`] };
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}
