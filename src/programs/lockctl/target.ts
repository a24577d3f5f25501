/** The daemon that `--connect` names: the system's, this user's, or one by the path of its socket. */
import os from 'node:os';
import path from 'node:path';
import { daemonPaths } from '../../libvirt/paths.ts';
import { CommandError, Exit } from './exit.ts';

export interface Target {
  /** Its name in messages. */
  readonly name: string;
  readonly socket: string;
  readonly adminSocket: string;
  readonly pidFile: string;
  readonly stateFile: string;
}

const LOCK_SOCKET = 'virtlockd-sock';
const ADMIN_SOCKET = 'virtlockd-admin-sock';

function targetOf(privileged: boolean): Target {
  const { socket, adminSocket, pidFile, state } = daemonPaths({
    privileged,
    environment: process.env,
    homeDirectory: os.homedir(),
  });
  return { name: privileged ? 'system' : 'session', socket, adminSocket, pidFile, stateFile: state };
}

/** A daemon by the path of either of its sockets, or of the directory that holds them. */
function targetAt(given: string): Target {
  const absolute = path.resolve(given);
  const isSocket = [LOCK_SOCKET, ADMIN_SOCKET].includes(path.basename(absolute));
  const directory = isSocket ? path.dirname(absolute) : absolute;
  // A privileged daemon has these files beside the directory libvirt/, a session daemon has them within it.
  const outer = directory.endsWith('/run/libvirt') ? path.dirname(directory) : directory;
  return {
    name: given,
    socket: path.join(directory, LOCK_SOCKET),
    adminSocket: path.join(directory, ADMIN_SOCKET),
    pidFile: path.join(outer, 'virtlockd.pid'),
    stateFile: path.join(outer, 'virtlockd-restart-exec.json'),
  };
}

/**
 * @param connect `virtlockd:///system`, `virtlockd:///session`, either with `?socket=PATH` as in virt-admin, or a path;
 * by default this user's daemon
 * @throws CommandError for anything else
 */
export function resolveTarget(connect: string | undefined): Target {
  if (connect === undefined) return targetOf(process.geteuid?.() === 0);
  if (connect === 'system' || connect === 'session') return targetOf(connect === 'system');
  const uri = /^virtlockd:\/\/\/(system|session)(?:\?socket=(.+))?$/.exec(connect);
  if (uri !== null) {
    const [, kind, socket] = uri;
    return socket === undefined ? targetOf(kind === 'system') : targetAt(decode(socket, connect));
  }
  if (connect.includes('://')) throw notUnderstood(connect);
  return targetAt(connect);
}

function decode(encoded: string, connect: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw notUnderstood(connect);
  }
}

function notUnderstood(connect: string): CommandError {
  return new CommandError(
    Exit.USAGE,
    `unknown daemon '${connect}': use virtlockd:///system, virtlockd:///session or the path of a socket`,
  );
}
