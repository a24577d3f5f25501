/** `why PATH`: predicts whether an acquire would succeed now. Takes no lock, and creates nothing. */
import { accessSync, constants, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { AcquireFlag } from '../../../../xdr/programs/lock.ts';
import type { EtcdInfo, EtcdLock, LockInfo } from '../../../../xdr/programs/inquire.ts';
import { type Context, toAbsolute, toBytes, toPath, withoutLinks } from '../context.ts';
import { daemonProcess } from '../daemon-process.ts';
import { mountNote, rightsNote } from '../daemon-view.ts';
import { DeadOwners } from '../dead-owners.ts';
import { deviceNote } from '../device-names.ts';
import type { InquireClient } from '../inquire-client.ts';
import { etcdHolders, isKeptInEtcd } from '../etcd-locks.ts';
import { CommandError, Exit } from '../exit.ts';
import type { FileId } from '../../../proc/descriptors.ts';
import { fileId, findObstacle, findOutsiders, isHere } from '../kernel/holders.ts';
import { notesIn } from '../kernel/holder-notes.ts';
import { Looker } from '../kernel/looker.ts';
import { notEmpty } from '../not-empty.ts';
import { json, name, nameJson, notedOwners, owner, print, style } from '../output.ts';
import { freedBy, unreportedAt } from '../remote-locks.ts';
import { guardsOf, locksOf, namesOf } from './who.ts';

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

/** It is not known whether it would be granted at last. */
const SILENT: Verdict = {
  outcome: 'fails',
  reasons: ['its storage does not answer: an acquire would wait until it does.'],
};

/** The kernel's limit. */
const MAX_LINKS = 40;

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
  const isSilent = !(await new Looker().answers(file));
  if (!(await daemon.answersInquiries())) {
    if (isSilent) return SILENT;
    const { outcome, reasons } = judgeFile(file, options);
    const note = "This is libvirt's C daemon: its locks show its pid only, not the guest.";
    return { outcome, reasons: [...reasons, note, ...unsearched(file, options, false)] };
  }
  if (!(await daemon.lockspaces()).some(({ directory }) => directory === lockspace)) {
    return {
      outcome: 'fails',
      reasons: [
        `the daemon has no lockspace ${name(lockspace)}: create it with this exact spelling ('virt-lockctl lockspace create').`,
      ],
    };
  }
  const locks = await locksOf(daemon, lockspace === '' ? await namesOf(file) : [file]);
  const resource = lockspace === '' ? file : given;
  const named = locks.find((lock) => lock.lockspace === lockspace && lock.name === resource);
  // A held name counts first, whatever file it names now; then a file that is held under any name.
  const own = named === undefined ? locks.filter(isOn(isSilent ? null : fileId(file))) : [named];
  if (own.length > 0) return judgeHeld(own, options, await deadOf(daemon, own));
  const etcd = await daemon.etcd();
  if (etcd !== null && lockspace !== '' && isKeptInEtcd(etcd, lockspace)) return judgeEtcd(daemon, etcd, file, options);

  if (isSilent) return SILENT;
  const found = judgeFile(file, options);
  const verdict = { ...found, reasons: [...found.reasons, ...viewNotes(daemon), ...unsearched(file, options, true)] };
  const guard = locks.find((lock) => lock.lockspace !== '' && lock.path !== file);
  if (guard === undefined) return lockspace === '' ? judgeGuards(daemon, etcd, file, options, verdict) : verdict;
  // With an indirect lockspace, libvirt locks the file that stands for the image.
  const { outcome, reasons } = judgeHeld([guard], options, await deadOf(daemon, [guard]));
  return {
    outcome,
    reasons: [
      `in lockspace ${name(guard.lockspace)}, which guards this disk: ${reasons.join(' ')}`,
      `the file itself: ${verdict.reasons.join(' ')}`,
    ],
  };
}

/** What was not looked for. @param knowsLockspaces the daemon reports them */
function unsearched(file: ByteString, { lockspace }: Options, knowsLockspaces: boolean): string[] {
  const note = lockspace === undefined ? deviceNote(file, knowsLockspaces) : undefined;
  return note === undefined ? [] : [note];
}

/** As `verdict`, unless another host holds what guards the disk in a lockspace, or etcd does not say so. */
async function judgeGuards(
  daemon: InquireClient,
  etcd: EtcdInfo | null,
  file: ByteString,
  options: Options,
  verdict: Verdict,
): Promise<Verdict> {
  for (const { lockspace, file: lease } of await guardsOf(daemon, await namesOf(file))) {
    const isInEtcd = etcd !== null && isKeptInEtcd(etcd, lockspace);
    if (!isInEtcd && !(await new Looker().answers(lease))) continue;
    const { outcome, reasons } = isInEtcd ? await judgeEtcd(daemon, etcd, lease, options) : judgeFile(lease, options);
    if (outcome === 'granted' || (outcome === 'fails' && !isInEtcd)) continue;
    return {
      outcome,
      reasons: [
        `in lockspace ${name(lockspace)}, which guards this disk: ${reasons.join(' ')}`,
        `the file itself: ${verdict.reasons.join(' ')}`,
      ],
    };
  }
  return verdict;
}

/** A resource that is kept in etcd, and not held by this host. */
async function judgeEtcd(
  daemon: InquireClient,
  { isOver, lease }: EtcdInfo,
  resource: ByteString,
  { shared, autocreate }: Options,
): Promise<Verdict> {
  let locks: readonly EtcdLock[];
  try {
    locks = await daemon.etcdLocks(resource);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { outcome: 'fails', reasons: [`${error.message}.`] };
  }
  const inTheWay = locks.filter((lock) => shared !== true || !lock.shared);
  if (inTheWay.length > 0)
    return {
      outcome: 'refused',
      reasons: inTheWay.map(
        (lock) => `${etcdHolders(lock)} holds ${lock.shared ? 'a shared' : 'an exclusive'} lock in etcd.`,
      ),
    };
  if (lease === '' || isOver)
    return { outcome: 'fails', reasons: ["this host has no lease in etcd: 'virt-lockctl status' says why."] };
  const provided = autocreate === true || locks.length > 0 ? '' : ', if the resource was created';
  return { outcome: 'granted', reasons: [`no lock on ${name(resource)} in etcd is in the way${provided}.`] };
}

/** The tool judges by what it sees itself, which may not be what the daemon sees. */
function viewNotes({ target }: InquireClient): string[] {
  const pid = daemonProcess(target, 0);
  if (pid === null) return ["The daemon's process cannot be seen: it may have other mounts and rights than this tool."];
  return [mountNote(pid), rightsNote(pid)].filter((note) => note !== undefined);
}

function isOn(file: FileId | null): (lock: LockInfo) => boolean {
  return ({ device, inode }) => device === file?.device && inode === file.inode;
}

async function deadOf(daemon: InquireClient, locks: readonly LockInfo[]): Promise<DeadOwners> {
  return DeadOwners.ask(
    daemon,
    locks.flatMap(({ holds }) => holds.map(({ owner: who }) => who.pid)),
  );
}

/** @param locks on one file: one exclusive lock, or shared ones */
function judgeHeld(locks: readonly LockInfo[], { shared }: Options, dead: DeadOwners): Verdict {
  const owners = locks.flatMap(({ holds }) => holds.map(({ owner: who }) => owner(who, dead.has(who)))).join(', ');
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
    const isElsewhere = outsiders.length === 0 && (id === null || !isHere(lock, file, id));
    const noted = notedOwners(notesIn(file));
    const who =
      noted !== undefined
        ? `${noted},`
        : outsiders.length > 0
          ? outsiders.map(({ pid, program }) => `pid ${pid} (${name(program)})`).join(', ')
          : isElsewhere
            ? 'another host, or a process with an OFD lock,'
            : `pid ${lock.pid}`;
    const how = isElsewhere ? freedBy(withoutLinks(file)) : undefined;
    const reason = `${who} holds a ${lock.access.toLowerCase()} lock.`;
    return { outcome: 'refused', reasons: how === undefined ? [reason] : [reason, how] };
  }
  if (statSync(toPath(file)).isDirectory()) return { outcome: 'fails', reasons: [`${shown} is a directory.`] };
  try {
    accessSync(toPath(file), constants.R_OK | constants.W_OK);
  } catch (error) {
    return { outcome: 'fails', reasons: [`cannot write to ${shown} (${codeOf(error)}).`] };
  }
  const unreported = shared === true ? undefined : unreportedAt(withoutLinks(file));
  const reason = `no lock on ${shown} is in the way.`;
  return { outcome: 'granted', reasons: unreported === undefined ? [reason] : [reason, unreported] };
}

/** The path to which a dangling link leads: the file that would be created. */
function followLinks(file: ByteString): ByteString {
  let end = file;
  for (let links = 0; links < MAX_LINKS; links++) {
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
