/** Faults in the rights of clients and in the ends of owners. */
import { type Mutant, mutant } from './mutant.ts';

const handlers = 'src/lockd/handlers.ts';
const end = 'src/lockd/owner-end.ts';
const ends = 'src/lockd/owner-reaper.ts';

export const ownerMutants: readonly Mutant[] = [
  mutant('a restricted client may register', handlers, 'uuid } }) {\n    assertUnrestricted(client);', 'uuid } }) {', [
    'lockd/register-on-a-restricted-connection',
  ]),
  mutant(
    'a restricted client may call',
    handlers,
    'OwnerIdentity {\n  assertUnrestricted(client);',
    'OwnerIdentity {',
    ['lockd/acquire-resource-on-a-restricted-connection'],
  ),
  mutant(
    'a restricted client may create lockspaces',
    handlers,
    'createLockspace(client, { path }) {\n    assertUnrestricted(client);',
    'createLockspace(client, { path }) {',
    ['lockd/create-lockspace-on-a-restricted-connection'],
  ),
  mutant('RESTRICT restricts nothing', handlers, 'client.restrict();', '', ['lockd/restrict-twice']),
  mutant('an owner may have the id 0', handlers, 'if (id === 0) throw', 'if (id < 0) throw', [
    'lockd/register-with-id-0',
  ]),
  mutant(
    'registering twice is refused',
    handlers,
    'if (id === 0) throw',
    'if (id === 0 || client.owner !== null) throw',
    ['lockd/register-twice'],
  ),
  mutant(
    'who has not registered may acquire',
    handlers,
    'const owner = client.identify(registeredOwner(client));',
    "const owner = client.owner ?? { pid: client.connection.peer.pid, id: 1, name: '', uuid: '' };",
    ['lockd/acquire-resource-before-registering'],
  ),
  mutant(
    'an unknown lockspace has another code',
    handlers,
    'return toError(ErrorCode.INTERNAL_ERROR, `Lockspace for path ${path} does not exist`);',
    'return toError(ErrorCode.OPERATION_INVALID, `Lockspace for path ${path} does not exist`);',
    ['lockspace/resources-of-lockspaces-that-are-not-known'],
  ),
  mutant(
    'errors of the lock program have another domain',
    handlers,
    'return new RpcError(code, ErrorDomain.RPC, detail);',
    'return new RpcError(code, ErrorDomain.LOCKSPACE, detail);',
    ['lockd/restrict-before-registering'],
  ),
  mutant(
    'NEW of a lockspace that exists succeeds',
    handlers,
    'if (lockspaces.find(path) !== undefined) {',
    'if (lockspaces.find(path) !== undefined) return undefined;\n    if (path === null) {',
    ['lockspace/new-a-new-directory'],
  ),
  mutant(
    'CREATE_LOCKSPACE of a lockspace that exists fails',
    handlers,
    'else if (dialect.createLockspaceOnce)',
    'else if (path !== null)',
    ['lockspace/create-lockspace-a-new-directory'],
  ),
  mutant(
    'CREATE_LOCKSPACE again forgets what is held',
    handlers,
    'if (lockspaces.find(path) === undefined) remote.run(() => lockspaces.create(path, remote));',
    "if (path !== '') remote.run(() => lockspaces.create(path, remote));",
    ['lockspace/create-lockspace-a-new-directory'],
  ),
  mutant(
    "an owner's end leaves its locks",
    ends,
    'left: [...this.lockspaces.heldBy(end.pid)].values() });',
    'left: [].values() });',
    ['ownership/an-owner-is-killed', 'ownership/autocreate-files-of-an-owner-that-ended-are-unlinked'],
  ),
  mutant(
    "an owner's end leaves its last lock",
    ends,
    'left: [...this.lockspaces.heldBy(end.pid)].values() });',
    'left: [...this.lockspaces.heldBy(end.pid)].slice(0, -1).values() });',
    ['ownership/an-owner-is-killed'],
  ),
  mutant(
    "an owner's end leaves its second hold",
    'src/lockspace/lockspaces.ts',
    'this.dropHolds(resource, (hold) => hold.end === end);',
    'if (resource.holds.length === 1) this.dropHolds(resource, (hold) => hold.end === end);',
    ['ownership/of-a-shared-resource-only-the-owner-that-ended-goes'],
  ),
  mutant('an owner that loses its locks lives on', end, 'if (this.evidence.isProcess === true) this.sendDue();', '', [
    'ownership/an-owner-with-a-lease-closes-its-connection',
  ]),
  mutant(
    'an owner without locks is killed',
    ends,
    'if (holds.length > 0) {\n      log.info',
    'if (holds.length >= 0) {\n      log.info',
    ['ownership/an-owner-without-a-lease-is-left-alone'],
  ),
  mutant(
    'who calls for an owner takes its locks along',
    ends,
    'if (owner === null || !isOwnerItself) return;',
    'if (owner !== null && !isOwnerItself) this.end(this.liveHoldsOf(owner.pid));\n    if (owner === null || !isOwnerItself) return;',
    ['ownership/locks-stay-when-a-connection-ends-that-is-not-the-owner'],
  ),
  mutant(
    'an owner that ignores SIGTERM lives on',
    end,
    'const KILL_AFTER_MS = 1600;',
    'const KILL_AFTER_MS = 160_000;',
    ['ownership/an-owner-that-ignores-sigterm'],
  ),
];
