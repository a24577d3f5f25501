/** Starts the daemon, fresh or from a state document, and handles signals. */
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import type { ByteString } from '../../../xdr/codec.ts';
import { closeUnlessHeld, endAdoption, isHeld } from '../../lockspace/files.ts';
import { protectLater, protectOpen } from '../../lockspace/own-files.ts';
import { exitProcess } from '../../posix/exit.ts';
import { FileType, lastStat, LockType, posix, SocketKind, strerror } from '../../posix/posix.ts';
import { signalName } from '../../posix/signal-name.ts';
import { mayHang } from '../../proc/route.ts';
import { parseVersion } from '../../libvirt/dialect.ts';
import { Poller } from '../../rpc/poller.ts';
import type { Server } from '../../rpc/server.ts';
import { setCloseOnExec, STANDARD_STREAMS } from '../../restart/close-on-exec.ts';
import type { Predecessor } from '../../restart/predecessor.ts';
import { LockKinds } from '../../restart/lock-kinds.ts';
import { Reexec } from '../../restart/reexec.ts';
import { Survival } from '../../restart/survival.ts';
import { type Death, deathText } from '../../restart/death.ts';
import { restoreDaemon } from '../../restart/adopt.ts';
import { finishTakeover } from '../../restart/finish-takeover.ts';
import { type DaemonConfig, lockWatchOf } from './config.ts';
import { Daemon, type DaemonSettings } from '../../daemon/daemon.ts';
import { ownProcess, restoreLog, restoreOwnState } from '../../daemon/state.ts';
import { dismissEtcd, settingsIn } from '../../daemon/etcd-locks.ts';
import { credentialsOf, isSameButCredentials } from '../../etcd/settings.ts';
import type { EtcdState } from '../../etcd/state.ts';
import { EXIT, StartupError } from '../../libvirt/exit.ts';
import { logger } from '../../log/log.ts';
import type { RunOptions } from './options.ts';
import type { DaemonPaths } from '../../libvirt/paths.ts';
import { programFiles } from './program-files.ts';
import { isPidFileOf, PidFile, type PidFileHost } from './pidfile.ts';
import { reload } from './reload.ts';
import { listenAt, SocketError } from '../../rpc/listen.ts';
import { returnSpareMemory } from './spare-memory.ts';
import { parseNames } from '../../store/names.ts';
import { forgetTaken } from './surroundings.ts';
import { type Activation, type Environment, Notifier, SYSTEM_SOCKET } from './systemd.ts';
import { ownUnit } from '../../store/manager.ts';
import { type EndingUnit, endingUnit, isToEnd, jobAtEnd } from './systemd-job.ts';
import { Watchdog } from './watchdog.ts';

const log = logger('locking.lock_daemon');

interface ServeInput {
  /** The absolute path by which the daemon was started, its links not resolved. */
  readonly program: ByteString;
  readonly args: readonly ByteString[];
  /** For the program that is executed next. */
  readonly environment: Environment;
  readonly options: RunOptions;
  readonly paths: DaemonPaths;
  readonly config: DaemonConfig;
  readonly configFile: string;
  /** The state left by the previous program of this process; null at a fresh start. */
  readonly predecessor: Predecessor | null;
  /** What a daemon has left that died; its state is the predecessor's. */
  readonly death: Death | null;
  /** What is in the descriptor store, and nothing can be made of. */
  readonly discarded: Death['stored'];
  /** Listening sockets that systemd passed. */
  readonly activation: Activation;
  /** Applies the log settings of a configuration. */
  readonly setUpLog: (config: DaemonConfig) => void;
}

/** Returns when the daemon serves. @throws StartupError */
export function serve(input: ServeInput): void {
  // Closures must not keep `input` alive as long as the daemon: the predecessor's document is as large as all locks.
  const { program, args, environment, options, paths, config, configFile, predecessor, death, discarded, setUpLog } =
    input;
  const version = parseVersion(config.libvirtVersion);
  if (version === null) throw new StartupError(EXIT.config, `Unknown version ${config.libvirtVersion}`);
  const requests = listenForSignals();
  const carried = predecessor?.document.own ?? null;

  // The pid file first: no log output may be the same file.
  const pidFile = takePidFile(paths.pidFile, predecessor);
  if (pidFile !== null) protectOpen(pidFile.fd, 'pid file', true);
  protectStreams();
  protectLater(() => programFiles().map((file) => [file, 'program']));
  if (carried !== null) restoreLog(carried);

  const isSystemService = ownUnit()?.manager === 'system';
  const notifier = new Notifier(
    environment,
    (path, data) => posix.sendDatagram(path, data),
    predecessor !== null && isSystemService ? SYSTEM_SOCKET : undefined,
  );
  const watchdog = new Watchdog(environment, process.pid, {
    everyLockWouldOutlive: () => survival?.everyLockWouldOutlive === true,
    isSending: () => survival?.isSending === true,
    notify: (state) => {
      notifier.notify(state);
    },
  });
  forgetTaken(environment);
  const hasDied = death !== null;
  /** It has left all to this one, as for `systemctl restart`. */
  const hasLeft = death?.state.recorder.hasLeft === true;
  const started = (hasDied ? undefined : carried?.started) ?? Date.now();
  const restarts = (carried?.restarts ?? 0) + (predecessor === null || (hasDied && !hasLeft) ? 0 : 1);
  const deaths = (carried?.deaths ?? 0) + (hasDied && !hasLeft ? 1 : 0);
  const poller = new Poller();
  const identity = ownProcess();
  const survival =
    notifier.path === undefined || options.daemonize || identity === undefined
      ? null
      : new Survival({
          socket: notifier.path,
          promised: environment.FDSTORE,
          identity: {
            process: identity,
            pid: process.pid,
            restarts,
            deaths,
            started,
            invocation: environment.INVOCATION_ID,
          },
        });
  // It would serve without a record, and leave the former one's to the next process.
  if (hasDied && survival === null)
    throw new StartupError(
      EXIT.initialize,
      'Cannot go on with the state record: there is no NOTIFY_SOCKET, or /proc cannot be read',
    );
  const etcd = etcdOf(config, predecessor);
  const settings: DaemonSettings = {
    poller,
    version,
    maxClients: config.maxClients,
    adminMaxClients: config.adminMaxClients,
    lockWatch: lockWatchOf(config),
    ...etcd.settings,
    timeout: options.timeout,
    pidFile: pidFile?.fd,
    life: { program, started, executed: Date.now(), restarts, deaths },
    ...(survival === null ? {} : { keeper: survival }),
    onEnd: () => {
      requests.emit('end');
    },
  };
  const daemon = cleaningUp(pidFile, () =>
    predecessor === null ? listening(new Daemon(settings), input) : resume(settings, predecessor, paths),
  );
  if (carried?.pidFile !== undefined && carried.pidFile !== pidFile?.fd) closeOldPidFile(carried.pidFile);
  if (carried !== null) restoreOwnState(daemon, carried);

  let isEnding = false;
  const lockKinds = new LockKinds(daemon.lockspaces);
  const reexec = new Reexec({
    daemon,
    lockKinds,
    survival,
    program,
    args,
    stateFile: paths.state,
    environment: () => ({ ...environment, ...notifier.environment, ...watchdog.environment }),
    isEnding: () => isEnding,
    isTold: () => notifier.flush(),
    refused: (reason) => {
      daemon.inquiry.restartRefused(reason);
    },
  });

  surviveDefects();
  // Before the start, which serves calls that the previous program has received: one may ask for the end.
  requests.once('end', () => {
    if (isEnding) return;
    isEnding = true;
    watchdog.stop();
    notifier.stopping();
    void daemon.shutdown().then(() => {
      reexec.abandon();
      survival?.empty();
      pidFile?.remove();
      exitProcess(EXIT.ok);
    });
  });
  let isTakenOver = predecessor === null;
  survival?.attach({
    daemon,
    isBusy: () => !isTakenOver || reexec.isRunning,
    onStore: () => void lockKinds.turnToOfd(),
    onNoStore: async () => lockKinds.leaveOfd(),
    onMortal: () => {
      watchdog.update();
    },
  });
  if (discarded.size > 0) survival?.discard(discarded.keys());
  if (death !== null) {
    log.warn(deathText(death));
    survival?.takeOver(death);
  } else if (carried?.record !== undefined) survival?.goOn(carried.record, parseNames(carried.stored), carried.queue);
  const hasRecord = death !== null || carried?.record !== undefined;
  // With all that outlives it, the daemon need not end its owners to end itself: only when an operator has systemd stop it.
  const endingBy = endingUnit(() => daemon.hasOwners, join(paths.runDirectory, 'virtlockd-may-stop'));
  // Once: a second answer of systemd could contradict the first, which the daemon is acting on.
  requests.once('terminate', () => {
    if (survival === null) requests.emit('end');
    else
      void leave({ survival, daemon, reexec }, endingBy).then((isLeft) => {
        if (isLeft) exitProcess(EXIT.ok);
        requests.emit('end');
      });
  });
  // For ps, pidof and killall; else it would be the runtime's name.
  posix.setProcessName('virtlockd');
  daemon.start();
  returnSpareMemory({ load: () => daemon.load, gone: () => daemon.inquiry.gone, events: () => poller.events });
  notifier.ready();
  watchdog.start();
  const takeover = predecessor === null ? Promise.resolve() : finishTakeover(daemon, lockKinds);
  void takeover.then(() => {
    isTakenOver = true;
    daemon.remoteFiles.attach();
    daemon.lockWatch.start();
    daemon.etcd?.start();
    if (etcd.left !== null) dismissEtcd(etcd.left, daemon);
    survival?.takeoverFinished();
    // bin/virtlockd has ignored signals for a moment.
    if (hasDied)
      void isToEnd(endingBy).then((isToEnd) => {
        if (isToEnd) requests.emit('terminate');
      });
  });
  if (!hasRecord) survival?.look(predecessor === null);

  let reloaded = Promise.resolve();
  requests.on('reload', () => {
    // One after the other: a file may be read late.
    reloaded = reloaded
      .catch(() => undefined)
      .then(async () => {
        if (!isEnding) await reload({ daemon, configFile, required: options.config !== undefined, setUpLog });
      });
  });
  requests.on('restart', () => {
    // After the answer, so that the next program need not ask again.
    void takeover
      .then(async () => survival?.answer())
      .then(async () => {
        if (isEnding) return;
        // An attempt in progress has stopped it, and must find it stopped to its end.
        const isFirst = !reexec.isRunning;
        if (isFirst) watchdog.stop();
        await reexec.request();
        if (isFirst) watchdog.start();
      });
  });
  ignoreStrays();
  // They are blocked since before this program began.
  posix.releaseSignals();
  log.info(`Serving at ${paths.socket} and ${paths.adminSocket}`);
}

interface Leaving {
  readonly survival: Survival;
  readonly daemon: Daemon;
  readonly reexec: Reexec;
}

/**
 * Leaves all to the next process, if that outlives this one and nobody has systemd stop it. Returns whether it does: then this one
 * only has to exit.
 */
async function leave({ survival, daemon, reexec }: Leaving, unit: EndingUnit): Promise<boolean> {
  // At once: a program that is executed now would know nothing of the signal.
  await reexec.stop();
  await survival.answer();
  const job = survival.isActive ? await jobAtEnd(unit) : 'stop';
  if (job === 'stop') return false;
  survival.keepListeners();
  await survival.flush();
  // Recording may have failed since.
  if (!survival.isActive) return false;
  log.info(`Leaving ${daemon.lockspaces.count} locks to the next process, for this one is not to be stopped`);
  survival.leave();
  return true;
}

interface ChosenEtcd {
  readonly settings: Pick<DaemonSettings, 'etcd'>;
  /** Of the previous program: to be ended. */
  readonly left: EtcdState | null;
}

/**
 * While locks are held in etcd, the settings stay by which they were acquired, whatever the configuration says by now. It always says how the
 * host proves itself: certificates are renewed, and passwords changed, while locks are held.
 */
function etcdOf({ etcd }: DaemonConfig, predecessor: Predecessor | null): ChosenEtcd {
  const carried = predecessor?.document.own?.etcd;
  if (carried === undefined) return { settings: etcd === null ? {} : { etcd: { settings: etcd } }, left: null };
  const before = settingsIn(carried);
  if (etcd !== null && isSameButCredentials(etcd, before))
    return { settings: { etcd: { settings: etcd, carried } }, left: null };
  if (!holdsInEtcd(predecessor)) return { settings: etcd === null ? {} : { etcd: { settings: etcd } }, left: carried };
  log.error('The settings of etcd stay as they were, because locks are held there: they change once none is');
  const settings = { ...before, ...(etcd === null ? {} : credentialsOf(etcd)) };
  return { settings: { etcd: { settings, carried } }, left: null };
}

function holdsInEtcd(predecessor: Predecessor | null): boolean {
  for (const { resources } of predecessor?.document.lockspaces ?? [])
    for (const resource of resources) if (resource['x-etcd'] !== undefined) return true;
  return false;
}

interface Requests {
  end: [];
  terminate: [];
  reload: [];
  restart: [];
}

const SIGNALS = {
  SIGTERM: 'terminate',
  SIGINT: 'terminate',
  SIGQUIT: 'terminate',
  SIGHUP: 'reload',
  SIGUSR1: 'restart',
} as const;

/** Called first, so that a signal during start-up still cleans up; requests are handled only after serve() returns. */
function listenForSignals(): EventEmitter<Requests> {
  const requests = new EventEmitter<Requests>();
  for (const [signal, request] of Object.entries(SIGNALS)) process.on(signal, () => requests.emit(request));
  return requests;
}

/** Ignores, with a warning once for each, the signals that would end the daemon by mistake. */
function ignoreStrays(): void {
  posix.ignoreStrays((signal, sender) => {
    log.warn(`Ignoring ${signalName(signal)}${sender === 0 ? '' : ` from process ${sender}`}`);
  });
}

/** Goes on after a defect of ours: whatever it broke is less than the locks of all guests, which would go with the process. */
function surviveDefects(): void {
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      log.error(`Going on after ${event}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    });
  }
}

/** Leaves no pid file behind when `start` fails. */
function cleaningUp<T>(pidFile: PidFile | null, start: () => T): T {
  try {
    return start();
  } catch (error) {
    pidFile?.remove();
    throw error;
  }
}

function resume(settings: DaemonSettings, predecessor: Predecessor, paths: DaemonPaths): Daemon {
  const { document, late } = predecessor;
  const daemon = restoreDaemon(settings, predecessor);
  endAdoption();
  if (late !== null && document.own?.epoll !== undefined) {
    daemon.poller.inherit(document.own.epoll, (fd) => {
      daemon.lockServer.adoptLateAt(fd);
    });
  }
  listenAnew(daemon.lockServer, paths.socket);
  if (document.adminServer !== null) listenAnew(daemon.adminServer, paths.adminSocket);
  log.info(`Resumed with ${daemon.lockServer.clientCount} clients`);
  return daemon;
}

/** For a server whose sockets were not those of the document: without any, nobody could connect again. */
function listenAnew(server: Pick<Server<unknown>, 'listeners' | 'addListener'>, path: string): void {
  if (server.listeners.length > 0) return;
  try {
    server.addListener(listenAt(path));
  } catch (error) {
    if (!(error instanceof SocketError)) throw error;
    log.error(error.message);
  }
}

const PID_FILE_HOST: PidFileHost = {
  pid: process.pid,
  lock: (fd, start, length) => posix.setlk(fd, LockType.WRITE, start, length),
  strerror,
};

/** In a re-execution no fault of the pid file ends the daemon, which would lose every lock. */
function takePidFile(path: string, predecessor: Predecessor | null): PidFile | null {
  // A daemon that has died had one that nobody has now, unless another daemon serves.
  if (predecessor === null || predecessor.hasDied === true) return PidFile.acquire(path, PID_FILE_HOST);
  try {
    const fd = predecessor.document.own?.pidFile;
    if (!mayHang(path) && isHeld(path)) throw new StartupError(EXIT.pidFile, `Pid file '${path}' is a held resource`);
    return fd === undefined ? PidFile.acquire(path, PID_FILE_HOST) : PidFile.adopt(path, fd, PID_FILE_HOST);
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    log.error(error.message);
    return null;
  }
}

/** Protects standard streams that are files: standard error is a log. */
function protectStreams(): void {
  for (const fd of STANDARD_STREAMS) {
    if (posix.fstatInode(fd) === 0 && lastStat().type === FileType.REGULAR) {
      protectOpen(fd, 'standard stream');
    }
  }
}

/** Closes a pid file that has lost its name, once the held files are known: the close of one of those would drop its lock. */
function closeOldPidFile(fd: number): void {
  if (isPidFileOf(fd, process.pid)) closeUnlessHeld(fd);
}

/** Gives a fresh daemon its sockets: those that systemd passed, else its own. @throws StartupError */
function listening(daemon: Daemon, { paths, activation }: ServeInput): Daemon {
  for (const fd of activation.rest) posix.close(fd);
  setCloseOnExec([...activation.lock, ...activation.admin], true);
  const servers = [
    [daemon.lockServer, activation.lock, paths.socket],
    [daemon.adminServer, activation.admin, paths.adminSocket],
  ] as const;
  try {
    for (const [server, passed, path] of servers) {
      // As C does: with any socket passed it makes none itself.
      for (const fd of passed) {
        if (!isListening(fd)) throw new SocketError(`Descriptor ${fd} that systemd passed is not a listening socket`);
        posix.setNonblocking(fd);
        server.addListener({ fd, path: posix.socketPath(fd), unlink: false });
      }
      if (activation.lock.length + activation.admin.length === 0) server.addListener(listenAt(path));
    }
  } catch (error) {
    if (error instanceof SocketError) throw new StartupError(EXIT.network, error.message);
    throw error;
  }
  return daemon;
}

function isListening(fd: number): boolean {
  return posix.inspectSocket(fd, new Int32Array(3)) === SocketKind.LISTENING;
}
