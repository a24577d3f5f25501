/** Opens the daemons that the command line names. */
import { realpathSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { AttachedSubject } from './attach.ts';
import { Lab } from '../../lab/root.ts';
import type { Place } from '../../lab/place.ts';
import { SessionPlace } from '../../lab/session.ts';
import type { Attached, Options, Started } from './options.ts';
import { StartedSubject, type Subject } from './subject.ts';
import { admin } from './exchange/script.ts';
import { Peer } from '../../lab/wire.ts';

/** Paths that are empty in a private root. */
const hidden = /^\/(tmp|run|etc\/libvirt|var\/(lib|cache|log)\/libvirt)(\/|$)/;

/** The program's directories, where a private root over this machine would hide them. */
function surroundings(program: string): string[] {
  let path: string;
  try {
    path = realpathSync(program);
  } catch {
    // It is on PATH or missing; its start shows which.
    return [];
  }
  const seen = statSync(path).dev === statSync('/').dev && !hidden.test(path);
  if (seen) return [];
  // npm has installed its dependencies beside it.
  const modules = path.indexOf('/node_modules/');
  if (modules !== -1) return [path.slice(0, path.indexOf('/', modules + 1))];
  const parent = dirname(path);
  return [basename(parent) === 'bin' ? dirname(parent) : parent];
}

async function openPlace({ command, tree }: Started, share: readonly string[]): Promise<Place> {
  if (process.geteuid?.() !== 0) {
    if (tree !== '/') throw new Error('only root can enter another tree');
    return new SessionPlace();
  }
  const found = tree === '/' ? command.filter((word) => word.startsWith('/')).flatMap(surroundings) : [];
  return Lab.open({ tree, share: [...share, ...found], offline: true });
}

/** @throws Error when its place cannot be opened */
export async function openSubject(subject: Started | Attached, options: Options): Promise<Subject> {
  if ('socket' in subject) return new AttachedSubject(subject, options.directory);
  const { dialect, share } = options;
  // C daemons ignore this key.
  const configuration = dialect === undefined ? undefined : `libvirt_version = "${dialect}"\n`;
  return new StartedSubject(await openPlace(subject, share), subject.command, configuration);
}

/** The version of libvirt that a daemon claims, as libvirt counts it. */
export async function versionOf(subject: Subject): Promise<number> {
  const peer = await Peer.connect((await subject.daemon()).adminSocket);
  try {
    const { payload } = await peer.call(admin(3));
    return Number(payload.readBigUInt64BE(0));
  } finally {
    peer.close();
  }
}
