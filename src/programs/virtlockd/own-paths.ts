/** The paths of a daemon in this process, by its user, environment and home. */
import { accessSync, constants } from 'node:fs';
import { userInfo } from 'node:os';
import type { ByteString } from '../../../xdr/codec.ts';
import { toPath } from '../../posix/bytes.ts';
import { type DaemonPaths, daemonPaths } from '../../libvirt/paths.ts';
import type { Environment } from './systemd.ts';

export function isPrivileged(): boolean {
  return process.geteuid?.() === 0;
}

export function pathsFor(environment: Readonly<Environment>, root: ByteString | undefined): DaemonPaths {
  const homeless = (environment.HOME ?? '') === '';
  const homeDirectory = homeless ? userInfo({ encoding: 'buffer' }).homedir.toString('latin1') : '';
  return daemonPaths({ privileged: isPrivileged(), environment, homeDirectory, root });
}

export function isWritable(file: ByteString): boolean {
  try {
    accessSync(toPath(file), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
