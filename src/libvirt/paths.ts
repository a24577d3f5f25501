/** Where the daemon keeps things: privileged (euid 0) and session layout, and either of them below another root. */

import { isAbsolute, join } from 'node:path';

/** Where libvirt has its lock daemon. */
export const PROGRAM = '/usr/sbin/virtlockd';

export interface DaemonPaths {
  /** The configuration file that is read when no other is named; it may be missing. */
  config: string;
  /** Holds the sockets; made if it is missing, with `runDirectoryMode`. */
  runDirectory: string;
  runDirectoryMode: number;
  socket: string;
  adminSocket: string;
  pidFile: string;
  /** The document handed to the successor at a re-execution. */
  state: string;
  /** Where a daemonized daemon logs when there is no journal. */
  log: string;
  /** The journal's and syslog's sockets; never below another root's privileges, but below the root for tests. */
  journal: string;
  syslog: string;
}

/** What decides the paths: the effective user, the environment, the user's home from the user database, `--root`. */
export interface PathInput {
  privileged: boolean;
  environment: Readonly<Record<string, string | undefined>>;
  /** Used when HOME is not set. */
  homeDirectory: string;
  root?: string | undefined;
}

/** All paths of one daemon. With a root even the session's directories lie below it, so that tests cannot meet. */
export function daemonPaths(input: PathInput): DaemonPaths {
  const below = (path: string): string =>
    input.root === undefined ? path : join(input.root, isAbsolute(path) ? path : `/${path}`);
  const journal = below('/run/systemd/journal/socket');
  const syslog = below('/dev/log');
  if (input.privileged) {
    return {
      config: below('/etc/libvirt/virtlockd.conf'),
      runDirectory: below('/run/libvirt'),
      runDirectoryMode: 0o755,
      socket: below('/run/libvirt/virtlockd-sock'),
      adminSocket: below('/run/libvirt/virtlockd-admin-sock'),
      pidFile: below('/run/virtlockd.pid'),
      state: below('/run/virtlockd-restart-exec.json'),
      log: below('/var/log/libvirt/virtlockd.log'),
      journal,
      syslog,
    };
  }
  const home = nonEmpty(input.environment.HOME) ?? input.homeDirectory;
  const configHome = nonEmpty(input.environment.XDG_CONFIG_HOME) ?? join(home, '.config');
  const cacheHome = nonEmpty(input.environment.XDG_CACHE_HOME) ?? join(home, '.cache');
  // glib's fallback for the runtime directory is the cache directory, so XDG_CACHE_HOME moves the sockets too.
  const runtime = nonEmpty(input.environment.XDG_RUNTIME_DIR) ?? cacheHome;
  const run = below(join(runtime, 'libvirt'));
  return {
    config: below(join(configHome, 'libvirt/virtlockd.conf')),
    runDirectory: run,
    runDirectoryMode: 0o700,
    socket: join(run, 'virtlockd-sock'),
    adminSocket: join(run, 'virtlockd-admin-sock'),
    pidFile: join(run, 'virtlockd.pid'),
    state: join(run, 'virtlockd-restart-exec.json'),
    log: below(join(cacheHome, 'libvirt/virtlockd.log')),
    journal,
    syslog,
  };
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
