/** Faults in the admin program, the restart, the daemon's start and end, and the inquire program. */
import { type Mutant, mutant } from './mutant.ts';

const capture = 'src/restart/capture.ts';
const rpcState = 'src/rpc/state.ts';
const lockspaceState = 'src/lockspace/state.ts';
const adopt = 'src/restart/adopt.ts';
const clients = 'src/admin/clients.ts';

export const adminMutants: readonly Mutant[] = [
  mutant(
    'limits that contradict each other are taken',
    'src/admin/limits.ts',
    'if (maxClients < maxAnonymousClients) throw',
    'if (maxClients < 0) throw',
    ['limits/set-limits-nclients-unauth-max-1025'],
  ),
  mutant(
    'set limits are not kept',
    'src/admin/limits.ts',
    'server.setLimits({ maxClients, maxAnonymousClients });',
    '',
    ['limits/set-limits-nclients-max-5000'],
  ),
  mutant('counting clients lists them', clients, 'if (needResults === 0) return', 'if (needResults < 0) return', [
    'admin/list-clients-only-counted',
  ]),
  mutant('a closed client stays', clients, 'client.close();\n    return undefined;', 'return undefined;', [
    'admin/client-close',
  ]),
  mutant('who has not called yet is identified', clients, 'if (!client.isIdentified) {', 'if (client.id < 0) {', [
    'admin/client-info-of-another-process',
  ]),
  mutant(
    'late flags of the admin program are not checked',
    'src/admin/lookup.ts',
    'if (rule !== undefined) checkFlags(',
    'if (rule === null) checkFlags(',
    ['admin/list-clients-with-flags', 'admin/lookup-client-with-flags'],
  ),
  mutant(
    'an unknown server has another code',
    'src/admin/lookup.ts',
    'throw new RpcError(ErrorCode.NO_SERVER, finder.domain, finder.server(name));',
    'throw new RpcError(ErrorCode.NO_CLIENT, finder.domain, finder.server(name));',
    ['admin/get-limits-of-servers-that-there-are-not'],
  ),
  mutant(
    'no filters are an empty text',
    'src/admin/logging.ts',
    'filters: count === 0 ? null : text, count',
    'filters: text, count',
    ['admin/get-outputs-and-get-filters-as-started'],
  ),
  mutant(
    'a parameter given twice is taken',
    'src/admin/parameters.ts',
    'if (key in values) throw invalid(',
    'if (key in [values]) throw invalid(',
    ['limits/set-limits-twice'],
  ),
];

export const restartMutants: readonly Mutant[] = [
  mutant(
    'a restart forgets a lock',
    'src/restart/resource-pieces.ts',
    'known.length === 0 ? lockspace.resources.values()',
    'known.length === 0 ? [...lockspace.resources.values()].slice(1)',
    ['restart/an-exclusive-lock-stays', 'restart/five-hundred-locks-stay'],
  ),
  mutant(
    'a restart forgets clients that have not registered',
    capture,
    'mapped(daemon.lockServer.adoptAll().values(), (',
    `mapped([...daemon.lockServer.adoptAll().values()].filter(({ context }) => (context.owner ?? null) !== null), (`,
    ['restart/a-client-that-has-not-registered-stays'],
  ),
  mutant(
    'a restart forgets how far ids were counted',
    rpcState,
    'next_client_id: server.nextClientId,',
    'next_client_id: 1,',
    ['restart/ids-go-on-to-be-counted'],
  ),
  mutant('a restart forgets set limits', rpcState, 'max_clients: server.maxClients,', 'max_clients: 1024,', [
    'restart/set-limits-stay',
  ]),
  mutant(
    'a restart frees restricted clients',
    adopt,
    'context.restricted = privateData.restricted;',
    'context.restricted = false;',
    ['restart/a-restricted-client-stays-restricted'],
  ),
  mutant(
    'a restart forgets half of a message',
    rpcState,
    "'x-received': hasPending ? received.toString('base64') : undefined,",
    "'x-received': undefined,",
    ['restart/half-a-message-completes'],
  ),
  mutant(
    'a restart forgets replies under way',
    rpcState,
    "'x-unsent': hasPending ? unsent.toString('base64') : undefined,",
    "'x-unsent': undefined,",
    ['restart/replies-that-wait-to-be-taken-arrive'],
  ),
  mutant(
    'a restart forgets that locks are shared',
    lockspaceState,
    'lockHeld: file.locked,\n    flags: mode.flags,',
    'lockHeld: file.locked,\n    flags: mode.flags & 2,',
    ['restart/a-shared-lock-stays-shared'],
  ),
  mutant(
    'a restart forgets that files are its own',
    lockspaceState,
    'lockHeld: file.locked,\n    flags: mode.flags,',
    'lockHeld: file.locked,\n    flags: mode.flags & 1,',
    ['restart/an-autocreated-file-goes-with-its-release'],
  ),
  mutant(
    'a restart forgets a lockspace',
    capture,
    'of daemon.lockspaces) {',
    'of [...daemon.lockspaces].slice(0, 1)) {',
    ['restart/an-empty-lockspace-stays-known'],
  ),
  mutant(
    'a restart forgets the second hold',
    lockspaceState,
    'owners: holds.map(({ owner }) => owner.pid),',
    'owners: holds.slice(0, 1).map(({ owner }) => owner.pid),',
    ['restart/every-owner-of-a-shared-resource-stays'],
  ),
  mutant(
    'a restart leaves its state behind',
    'src/restart/predecessor.ts',
    'if (bytes === null) return null;\n    removeStateFile(stateFile);',
    'if (bytes === null) return null;',
    ['restart/the-state-file-is-removed'],
  ),
  mutant(
    'an unfit successor is the end',
    'src/restart/reexec.ts',
    'log.error(`Unable to re-execute, service goes on: ${reason}`);',
    'log.error(reason);\n        process.exit(9);',
    ['restart/a-successor-that-is-missing-is-not-executed'],
  ),
];

export const daemonMutants: readonly Mutant[] = [
  mutant(
    'the pid file is not locked',
    'src/programs/virtlockd/pidfile.ts',
    'const status = host.lock(fd, 0, 1);',
    'const status = 0;',
    ['command-line/another-runs'],
  ),
  mutant(
    'the pid file stays',
    'src/programs/virtlockd/pidfile.ts',
    'if (isNamed(this.fd, this.path) === true) unlinkSync(toPath(this.path));',
    '',
    ['command-line/nothing'],
  ),
  mutant(
    'the sockets stay',
    'src/daemon/daemon.ts',
    'if (unlink && path !== null && !isSystemds) posix.unlink(path);',
    '',
    ['command-line/nothing'],
  ),
  mutant('the sockets are open to all', 'src/rpc/listen.ts', 'process.umask(0o077)', 'process.umask(0)', [
    'command-line/nothing',
  ]),
  mutant('a bad run directory has another exit status', 'src/libvirt/exit.ts', 'runDirectory: 2,', 'runDirectory: 3,', [
    'command-line/the-run-directory-is-a-file',
  ]),
  mutant('a mistaken option has exit status 2', 'src/libvirt/exit.ts', 'options: 1,', 'options: 2,', [
    'command-line/letter-x',
  ]),
  mutant(
    '--help goes to standard output',
    'src/programs/virtlockd/main.ts',
    "process.stderr.write(usageText(program, isPrivileged()), 'latin1');\n      process.exit(EXIT.ok);",
    "process.stdout.write(usageText(program, isPrivileged()), 'latin1');\n      process.exit(EXIT.ok);",
    ['command-line/option-help'],
  ),
  mutant(
    'a lock does not keep an idle daemon',
    'src/daemon/daemon.ts',
    'return this.load === 0;',
    'return this.servers.every(({ clientCount }) => clientCount === 0);',
    ['command-line/a-lock-keeps-an-idle-daemon'],
  ),
];

export const inquireMutants: readonly Mutant[] = [
  mutant(
    'a cursor can be used twice',
    'src/inquire/pages.ts',
    'const [found] = index < 0 ? [] : own.splice(index, 1);',
    'const [found] = index < 0 ? [] : own.slice(index, index + 1);',
    ['inquire/a-cursor-is-used-once'],
  ),
];
