/**
 * Records the state documents that the C daemons write at SIGUSR1, all under the same load: fixtures/state/VERSION.json.
 *
 *   npm run fixtures:state [VERSION...]
 *
 * A script replaces the daemon's program, copies the document and exits. This script then replaces values that differ in each
 * run: the lab's directory by /lab, pids and times by fixed ones. It sorts resources, whose order in C is that of a hash table.
 * Everything else, including descriptors and bytes of names, is as C wrote it.
 *
 * The C daemon 7.0.0 closes its sockets before it describes them, fails and exits. A preloaded fcntl hides that failure; the
 * document then has no clients, and sockets with descriptor -1.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type LockDaemon, startDaemon } from '../src/lab/start.ts';
import { eventually } from '../src/lab/process.ts';
import { type Generation, generations } from '../src/lab/generation.ts';
import { missingDaemon } from '../src/lab/requirements.ts';
import { openLab } from '../src/lab/trees.ts';
import { autocreate, lock, type Peer, shared } from '../src/lab/wire.ts';
import { PROGRAM } from '../src/libvirt/paths.ts';

const STATE = '/run/virtlockd-restart-exec.json';
/** Above every pid, so that the daemon kills no process. */
const OWNER = 4_200_000;

const FORGIVING_FCNTL = `
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
static int forgiving(int fd, int cmd, void *arg) { return fd == -1 ? 0 : (int)syscall(SYS_fcntl, fd, cmd, arg); }
int fcntl(int fd, int cmd, ...) { va_list l; va_start(l, cmd); void *a = va_arg(l, void *); va_end(l); return forgiving(fd, cmd, a); }
int fcntl64(int fd, int cmd, ...) { va_list l; va_start(l, cmd); void *a = va_arg(l, void *); va_end(l); return forgiving(fd, cmd, a); }
`;

/** Gives a daemon all kinds of clients and locks, and names that need escapes. */
async function load(daemon: LockDaemon, odd: readonly Buffer[]): Promise<Peer[]> {
  const { directory } = daemon.lab;
  const register = async (number: number, name: string | Buffer): Promise<Peer> => {
    const peer = await daemon.connect();
    await peer.must(lock.register({ pid: OWNER + number, id: number, name, uuid: Buffer.alloc(16, number) }));
    return peer;
  };
  const first = await register(1, 'plain');
  const second = await register(2, 'é "quoted" \\ \u0001\u001f\t\n/\u007f');
  const third = await register(3, '');
  await first.must(lock.createLockspace(`${directory}/space`));
  await first.must(lock.newLockspace(`${directory}/empty`));
  for (const name of ['exclusive', 'shared']) writeFileSync(path.join(directory, name), '');
  await first.must(lock.acquire('', `${directory}/exclusive`));
  for (const peer of [first, second, third, second]) await peer.must(lock.acquire('', `${directory}/shared`, shared));
  await first.must(lock.acquire(`${directory}/space`, 'autocreated', autocreate));
  for (const peer of [second, third]) {
    await peer.must(lock.acquire(`${directory}/space`, 'both', shared | autocreate));
  }
  for (const name of odd) await third.must(lock.acquire(`${directory}/space`, name, autocreate));
  const restricted = await register(4, 'restricted');
  await restricted.must(lock.restrict());
  const admin = await daemon.connectAdmin();
  return [first, second, third, restricted, admin];
}

async function record(version: Generation): Promise<string> {
  const lab = await openLab(version);
  const shim = path.join(lab.directory, 'fcntl.so');
  if (version === '7.0.0') {
    execFileSync('cc', ['-shared', '-fPIC', '-xc', '-', '-o', shim], { input: FORGIVING_FCNTL });
  }
  const daemon = await startDaemon(version, {
    lab,
    ...(version === '7.0.0' ? { env: { LD_PRELOAD: shim } } : {}),
  });
  try {
    // With names that are not UTF-8, 9.0.0 exits without a document.
    const anyBytes = version === '11.3.0' || version === '12.8.0';
    const odd = ['é"\\\u0002', ...(anyBytes ? ['\xff\xfe'] : [])];
    const peers = await load(
      daemon,
      odd.map((name, index) => Buffer.from(name, index === 0 ? 'utf8' : 'latin1')),
    );
    const kept = path.join(lab.directory, 'kept.json');
    renameSync(lab.outside(PROGRAM), lab.outside(`${PROGRAM}.c`));
    lab.write(PROGRAM, `#!/bin/sh\ncp ${STATE} ${kept}.new && mv ${kept}.new ${kept}\n`, 0o755);
    process.kill(daemon.pid, 'SIGUSR1');
    const text = await eventually('the document is written', () => readFileSync(kept, 'latin1'));
    for (const peer of peers) peer.close();
    return normalised(text, lab.directory, daemon.pid);
  } finally {
    await daemon.stop();
    await lab.close();
  }
}

interface Named {
  readonly name?: string;
  readonly directory?: string;
}

function normalised(text: string, directory: string, pid: number): string {
  const fixed = text
    .replaceAll(directory, '/lab')
    .replace(`"magic": "${pid}"`, '"magic": "4711"')
    .replace(/"conn_time": \d+/g, '"conn_time": 1795358400');
  const key = ({ name, directory }: Named): string => name ?? directory ?? '';
  const sorted = JSON.parse(fixed, (field: string, value: unknown) =>
    (field === 'resources' || field === 'lockspaces') && Array.isArray(value)
      ? (value as Named[]).sort((a, b) => (key(a) < key(b) ? -1 : 1))
      : value,
  ) as unknown;
  return `${JSON.stringify(sorted, undefined, 2)}\n`;
}

const wanted = process.argv.slice(2);
for (const version of generations) {
  if (wanted.length > 0 && !wanted.includes(version)) continue;
  const missing = missingDaemon(version);
  if (missing !== undefined) {
    console.log(`${version}: not recorded: ${missing}`);
    continue;
  }
  const file = path.resolve(import.meta.dirname, `../fixtures/state/${version}.json`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, await record(version), 'latin1');
  console.log(`${version}: written`);
}
