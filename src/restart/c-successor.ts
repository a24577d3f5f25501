/**
 * Refuses a C daemon as successor if it would lose locks: by an exit between exec and its first reply, or later because of its idle
 * timeout, or by closing a file that is held. All of these cases were seen on 9.0.0, 11.3.0 or 12.8.0, and one on 7.0.0
 * (docs/c-daemon.md). A child checks the files that it opens:
 * programs/virtlockd/check-c-start.ts.
 */
import { isUtf8 } from 'node:buffer';
import { join } from 'node:path';
import type { Daemon } from '../daemon/daemon.ts';
import type { OwnState } from '../daemon/state.ts';
import { closeDeferred, type HeldFile, duplicateDeferred, lackingFds } from '../lockspace/files.ts';
import { bytesOf } from '../posix/bytes.ts';
import { descriptorLimits } from '../proc/limits.ts';
import { isThere } from '../proc/processes.ts';
import { installRoot } from '../posix/root.ts';
import { strerror } from '../posix/posix.ts';
import { parseVersion } from '../libvirt/dialect.ts';
import { MAX_FILE } from '../libvirt/limits.ts';
import { ANSWERS, type CStart, type CStartAnswer, type CStartOutlook } from './answers.ts';
import { captureState } from './capture.ts';
import { STANDARD_STREAMS } from './close-on-exec.ts';
import { asciiDocument, descriptorsOf, formatPieces, type StateDocument } from './document.ts';
import { C_DESCRIPTORS, countBelow, lackOfRoom } from './room.ts';
import { runProgram, UnfitSuccessor } from './successor.ts';

/** The oldest C daemon that is known to read a document with locks in it. */
const FIRST_C_THAT_RESUMES = 9_000_000;
/** Time limit of the child, in milliseconds. */
const LIMIT_MS = 5000;

/** A C daemon that is to be executed in this process. */
export class CSuccessor {
  readonly version: string;
  private readonly daemon: Daemon;
  private outlook: CStartOutlook = { opened: [], logFiles: 0, timeout: 0 };
  private readonly made = new MadeDescriptors();

  constructor(version: string, daemon: Daemon) {
    this.version = version;
    this.daemon = daemon;
  }

  /**
   * The checks that take time, while clients are served.
   *
   * @param own names descriptors that outlive exec, beside those of clients and resources
   * @throws UnfitSuccessor
   */
  async prove(start: CStart, document: readonly Buffer[], own: OwnState): Promise<void> {
    documentForC(document, this.version);
    // A C daemon would not go on killing owners.
    await this.daemon.ownerReaper.allKilled();
    this.outlook = await proveCStart(start, this.version);
    this.check(own, MadeDescriptors.lacking(this.daemon));
  }

  /**
   * The document just before exec, when nothing changes any more; {@link undo} if exec does not come about.
   *
   * @param descriptors gets those that the document names
   * @throws UnfitSuccessor
   */
  lastDocument(own: OwnState, descriptors: Set<number>): Buffer {
    this.check(own, MadeDescriptors.lacking(this.daemon));
    this.made.make(this.daemon);
    const state = captureState(this.daemon, own);
    refuseSharedDescriptors(state, this.version);
    return documentForC([...formatPieces(state, descriptors)], this.version);
  }

  /** Closes the descriptors that {@link lastDocument} has made. */
  undo(): void {
    this.made.takeBack();
  }

  /** @param more number of descriptors that are still to be made */
  private check(own: OwnState, more: number): void {
    const { daemon, outlook, version } = this;
    refuseHeldFiles(daemon, outlook, version);
    refuseTimeout(daemon, outlook, version);
    refuseClients(daemon, version);
    const { soft: limit, hard } = descriptorLimits('self');
    const kept = new Set([...STANDARD_STREAMS, ...descriptorsOf(captureState(daemon, own))]);
    const used = countBelow(limit, kept);
    const needed = C_DESCRIPTORS + outlook.logFiles + more;
    const lack = lackOfRoom(`libvirt ${version}`, { pid: process.pid, limit, hard, used, needed });
    if (lack !== undefined) throw new UnfitSuccessor(lack);
  }
}

/**
 * The document in ASCII alone, for a C daemon of this version.
 *
 * @throws UnfitSuccessor when that could not read it
 */
export function documentForC(pieces: readonly Buffer[], version: string): Buffer {
  const checkSize = (bytes: number): void => {
    if (bytes <= MAX_FILE) return;
    throw new UnfitSuccessor(`the state takes ${bytes} bytes, and libvirt ${version} reads at most ${MAX_FILE}`);
  };
  // First of all: clients wait while a document is concatenated and escaped, which makes it larger still.
  checkSize(pieces.reduce((sum, { length }) => sum + length, 0));
  const document = Buffer.concat(pieces);
  // No version reads such names, though 11.3.0 and 12.8.0 write them.
  if (!isUtf8(document)) {
    throw new UnfitSuccessor(`the state holds names that are no UTF-8, which libvirt ${version} cannot read`);
  }
  // 7.0.0 crashes on any document with a resource. Quotes in names are escaped, so this is a key.
  if ((parseVersion(version) ?? 0) < FIRST_C_THAT_RESUMES && document.includes('"lockHeld":')) {
    throw new UnfitSuccessor(`libvirt ${version} cannot take over locks: only 9.0.0 and later are known to`);
  }
  // No C daemon starts with such a resource. Quotes in names are escaped, so these are keys.
  if (document.includes('"fd":-1,"lockHeld":')) {
    throw new UnfitSuccessor(`a held resource has no descriptor, without which libvirt ${version} cannot take it over`);
  }
  const ascii = asciiDocument(document);
  checkSize(ascii.length);
  return ascii;
}

/**
 * A C daemon closes the descriptor of each resource and client. If two had the same, the second close would hit another file.
 *
 * @throws UnfitSuccessor
 */
function refuseSharedDescriptors({ lockServer, adminServer, lockspaces }: StateDocument, version: string): void {
  const seen = new Map<number, string>();
  const see = (fd: number, what: string): void => {
    const other = seen.get(fd);
    if (other !== undefined) {
      throw new UnfitSuccessor(
        `descriptor ${fd} stands for ${other} and for ${what}, and libvirt ${version} would close it twice`,
      );
    }
    seen.set(fd, what);
  };
  for (const [name, server] of [
    ['virtlockd', lockServer],
    ['admin', adminServer],
  ] as const) {
    for (const { fd } of server?.services.flatMap(({ socks }) => socks) ?? []) see(fd, `a socket of server ${name}`);
    for (const { id, sock } of server?.clients ?? []) see(sock.fd, `client ${id} of server ${name}`);
  }
  for (const { resources } of lockspaces) for (const { name, fd } of resources) see(fd, `resource '${name}'`);
}

/**
 * Asks a child whether a C daemon would start.
 *
 * @throws UnfitSuccessor
 */
async function proveCStart(start: CStart, version: string, limit = LIMIT_MS): Promise<CStartOutlook> {
  const script = join(installRoot, 'dist', 'check-c-start.cjs');
  const child = await runProgram(
    bytesOf(process.execPath),
    [bytesOf(script), bytesOf(JSON.stringify(start))],
    limit,
    ANSWERS,
  );
  const answers = answersIn(child.output);
  const last = answers.at(-1);
  if (last === undefined)
    throw new UnfitSuccessor(`cannot find out whether libvirt ${version} would start: ${child.end}`);
  if ('outlook' in last) return last.outlook;
  const failure =
    'failure' in last ? last.failure : `it does not come back from ${last.begin} within ${limit / 1000} s`;
  throw new UnfitSuccessor(`libvirt ${version} would end, and every lock be lost: ${failure}`);
}

function answersIn(output: string): CStartAnswer[] {
  // A child that was ended may have left the beginning of a line after the last newline.
  const lines = Buffer.from(output, 'latin1').toString().split('\n').slice(0, -1);
  try {
    return lines.map((line) => JSON.parse(line) as CStartAnswer);
  } catch {
    return [];
  }
}

/**
 * Its configuration and log files must not be held: the close would drop the lock, and log lines would get into an image.
 *
 * @throws UnfitSuccessor
 */
function refuseHeldFiles({ lockspaces }: Daemon, { opened }: CStartOutlook, version: string): void {
  const keys = new Set(opened);
  for (const { path, file } of lockspaces.resources()) {
    if (!keys.has(file.key)) continue;
    throw new UnfitSuccessor(
      `${path} is a held resource, and libvirt ${version} has it as its configuration or log file: name another one there`,
    );
  }
}

/**
 * With -t it ends when no client is connected, and with it the locks of owners without a connection.
 *
 * @throws UnfitSuccessor
 */
function refuseTimeout({ lockServer, lockspaces }: Daemon, { timeout }: CStartOutlook, version: string): void {
  if (timeout === 0) return;
  const connected = new Set(
    [...lockServer.adoptAll().values()].flatMap(({ context: { owner, isOwnerItself } }) =>
      owner !== null && isOwnerItself ? [owner.pid] : [],
    ),
  );
  for (const { name, holds } of lockspaces.resources()) {
    const absent = holds.find(({ owner }) => !connected.has(owner.pid));
    if (absent === undefined) continue;
    throw new UnfitSuccessor(
      `with --timeout libvirt ${version} ends after ${timeout} s without a client, and loses '${name}', whose owner (pid ${absent.owner.pid}) is not connected`,
    );
  }
}

/**
 * A C daemon looks for the process of each client in /proc, and exits if one is missing: the process has ended and a child has kept its
 * connection, or it is not visible from here. It also exits for a client of another user. To be called as late as possible.
 *
 * @throws UnfitSuccessor
 */
function refuseClients({ servers }: Daemon, version: string): void {
  const user = process.geteuid?.();
  for (const server of servers) {
    const { name } = server;
    for (const { id, peer } of server.adoptAll().values()) {
      const { pid, uid } = peer;
      // A process of another pid namespace has the number 0 here: C does not look for that.
      if (uid === user && (pid === 0 || isThere(pid) === true)) continue;
      const reason =
        uid === user ? `whose process (pid ${pid}) is gone, or not to be seen from here` : `who is user ${uid}`;
      throw new UnfitSuccessor(
        `client ${id} of server ${name} is one ${reason}, and libvirt ${version} exits when it takes such a one over: virt-admin client-disconnect ends it`,
      );
    }
  }
}

/** Duplicates that give each resource a descriptor of its own. */
class MadeDescriptors {
  private readonly files = new Set<HeldFile>();

  static lacking({ lockspaces }: Daemon): number {
    let lacking = 0;
    for (const file of sharedFiles(lockspaces)) lacking += lackingFds(file);
    return lacking;
  }

  /** @throws UnfitSuccessor; {@link takeBack} is needed then, too */
  make({ lockspaces }: Daemon): void {
    for (const file of sharedFiles(lockspaces)) {
      for (let lacking = lackingFds(file); lacking > 0; lacking--) {
        const fd = duplicateDeferred(file);
        if (fd < 0)
          throw new UnfitSuccessor(`not every resource can be given a descriptor of its own: ${strerror(fd)}`);
        this.files.add(file);
      }
    }
  }

  takeBack(): void {
    for (const file of this.files) closeDeferred(file);
    this.files.clear();
  }
}

function* sharedFiles(lockspaces: Daemon['lockspaces']): Generator<HeldFile> {
  const seen = new Set<HeldFile>();
  for (const { file } of lockspaces.resources()) {
    if (file.references < 2 || seen.has(file)) continue;
    seen.add(file);
    yield file;
  }
}
