/**
 * The rooms in their order. A room imports only rooms before it; a program imports another program only if `mayImport` has that.
 * test/unit/docs/rooms.test.ts checks all imports, and docs/architecture.md shows the list.
 */
export interface Room {
  readonly path: string;
  readonly holds: string;
  /** Further rooms beside those before it. */
  readonly mayImport?: readonly string[];
}

export const rooms: readonly Room[] = [
  { path: 'xdr', holds: 'the wire, pure: bytes in, values out; one description for each program' },
  { path: 'src/state', holds: 'how state that outlives a restart is described' },
  { path: 'src/posix', holds: "system calls: the daemon's native code and its typed wrapper" },
  { path: 'src/proc', holds: 'everything that is read from /proc' },
  { path: 'src/libvirt', holds: 'what libvirt says: dialects of its versions, error texts, exit codes, paths' },
  { path: 'src/log', holds: 'the log: levels, filters, outputs; printable names' },
  { path: 'src/store', holds: "what outlives the daemon's death: the record, and systemd's descriptor store" },
  { path: 'src/rpc', holds: 'poller, connections, servers, dispatch' },
  {
    path: 'src/storage',
    holds: 'file systems that may hang: which they are, and the helper process of each that calls them',
  },
  { path: 'src/lockspace', holds: 'files and their locks, lockspaces, resources, owners, and the tables they are in' },
  { path: 'src/etcd', holds: 'lockspaces in etcd: its client, a process of its own, and the lease of the host' },
  { path: 'src/lockd', holds: "the lock program: its eight procedures, a client's life, the end of owners" },
  { path: 'src/admin', holds: 'the admin program, which virt-admin speaks' },
  { path: 'src/inquire', holds: 'the inquire program, which virt-lockctl speaks: who holds what' },
  { path: 'src/daemon', holds: 'the Daemon: what it is made of, and when it is idle' },
  { path: 'src/restart', holds: 'the act of a restart: document, proof of the successor, exec, adoption' },
  { path: 'src/client', holds: 'the client library, virtlockd/client' },
  { path: 'src/swap', holds: 'the live swap: exchanging the program of a running daemon' },
  { path: 'src/lab', holds: 'where daemons are tried: private roots, daemons, libvirtd, guests, a second wire' },
  { path: 'src/programs/virtlockd', holds: 'the daemon as a program: options, configuration, pid file, systemd, -d' },
  { path: 'src/programs/lockctl', holds: "virt-lockctl, the operator's tool" },
  { path: 'src/programs/swap', holds: "virtlockd-swap, for the package's scripts" },
  { path: 'src/programs/trace', holds: 'virtlockd-trace: sources, decoder, output' },
  { path: 'src/programs/conformance', holds: 'virtlockd-conformance: checks any lock daemon from outside' },
  {
    path: 'src/programs/fuzz',
    holds: 'virtlockd-fuzz, and the model it judges by',
    mayImport: ['src/programs/virtlockd'],
  },
  {
    path: 'src/programs/interop',
    holds: 'the matrix of lock daemons and those who talk to them',
    mayImport: ['src/programs/conformance'],
  },
];

const WIDTH = Math.max(...rooms.map(({ path }) => path.length)) + 3;

/** The list for docs/architecture.md. */
export function roomsText(): string {
  return rooms.map(({ path, holds }) => `    ${`${path}/`.padEnd(WIDTH)}${holds}\n`).join('');
}
