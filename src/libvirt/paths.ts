/** The daemon's paths: privileged (euid 0) or of a user's session, and either below another root. */

import { isAbsolute, join } from 'node:path';

/** Where libvirt has its lock daemon. */
export const PROGRAM = '/usr/sbin/virtlockd';

export interface DaemonPaths {
  /** The default configuration file, which may be missing. */
  config: string;
  /** The directory of the sockets, made with `runDirectoryMode` if it is missing. */
  runDirectory: string;
  runDirectoryMode: number;
  socket: string;
  adminSocket: string;
  pidFile: string;
  /** The state document of a re-execution. */
  state: string;
  /** The log of a daemonized daemon without a journal. */
  log: string;
  /** The sockets of the journal and of syslog. */
  journal: string;
  syslog: string;
}

interface PathInput {
  privileged: boolean;
  environment: Readonly<Record<string, string | undefined>>;
  /** From the user database, for when HOME is not set. */
  homeDirectory: string;
  /** Of `--root`. */
  root?: string | undefined;
}

/** With a root, even the session's directories are below it, so that tests cannot disturb each other. */
export function daemonPaths(input: PathInput): DaemonPaths {
  const below = (path: string): string =>
    input.root === undefined ? path : join(input.root, isAbsolute(path) ? path : `/${path}`);
  const sockets = (run: string): Pick<DaemonPaths, 'socket' | 'adminSocket' | 'journal' | 'syslog'> => ({
    socket: join(run, 'virtlockd-sock'),
    adminSocket: join(run, 'virtlockd-admin-sock'),
    journal: below('/run/systemd/journal/socket'),
    syslog: below('/dev/log'),
  });
  if (input.privileged) {
    return {
      config: below('/etc/libvirt/virtlockd.conf'),
      runDirectory: below('/run/libvirt'),
      runDirectoryMode: 0o755,
      ...sockets(below('/run/libvirt')),
      pidFile: below('/run/virtlockd.pid'),
      state: below('/run/virtlockd-restart-exec.json'),
      log: below('/var/log/libvirt/virtlockd.log'),
    };
  }
  const home = nonEmpty(input.environment.HOME) ?? input.homeDirectory;
  const configHome = nonEmpty(input.environment.XDG_CONFIG_HOME) ?? join(home, '.config');
  const cacheHome = nonEmpty(input.environment.XDG_CACHE_HOME) ?? join(home, '.cache');
  // glib falls back to the cache directory, so XDG_CACHE_HOME moves the sockets too.
  const runtime = nonEmpty(input.environment.XDG_RUNTIME_DIR) ?? cacheHome;
  const run = below(join(runtime, 'libvirt'));
  return {
    config: below(join(configHome, 'libvirt/virtlockd.conf')),
    runDirectory: run,
    runDirectoryMode: 0o700,
    ...sockets(run),
    pidFile: join(run, 'virtlockd.pid'),
    state: join(run, 'virtlockd-restart-exec.json'),
    log: below(join(cacheHome, 'libvirt/virtlockd.log')),
  };
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
