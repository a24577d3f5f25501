/**
 * Prints the table of docs/performance.md about storage that hosts share: what ACQUIRE and RELEASE take on a GlusterFS, beside the C daemon, and
 * what one more request for a lock that is held takes of that.
 */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { Gluster } from '../src/lab/gluster.ts';
import { missingDaemon, missingGluster } from '../src/lab/requirements.ts';
import { type LockDaemon, startDaemon } from '../src/lab/start.ts';
import { openLab } from '../src/lab/trees.ts';
import { autocreate, lock, type Peer } from '../src/lab/wire.ts';
import { LockType } from '../src/posix/posix.ts';
import { setLock } from '../src/posix/record-lock.ts';

const ROUNDS = 15;
/** In a row, in each round. The first ones of a daemon do not count. */
const CALLS = 40;
const NOBODY = 4_200_000;
const contenders = [
  { title: 'C 9.0.0', kind: '9.0.0', configuration: '' },
  { title: 'this daemon', kind: 'ours', configuration: '' },
  { title: 'lock_confirm_interval = 0', kind: 'ours', configuration: 'lock_confirm_interval = 0\n' },
] as const;

/** In milliseconds. */
interface Times {
  readonly acquire: number[];
  readonly release: number[];
}

interface Subject {
  readonly title: string;
  readonly flags: number;
}

const subjects: readonly Subject[] = [
  { title: 'a lease that the daemon makes and removes', flags: autocreate },
  { title: 'a file that is there', flags: 0 },
];

async function timed(act: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await act();
  return performance.now() - begin;
}

async function measure(peer: Peer, path: string, flags: number, times: Times): Promise<void> {
  for (let call = 0; call < CALLS; call++) {
    times.acquire.push(await timed(async () => peer.must(lock.acquire('', path, flags))));
    times.release.push(await timed(async () => peer.must(lock.release('', path))));
  }
}

/** What it takes to ask for a lock that one has. */
function requests(file: string): number[] {
  const fd = openSync(file, 'r+');
  const ask = (): number => setLock('ofd', fd, LockType.WRITE);
  if (ask() !== 0) throw new Error('it is locked');
  const times = Array.from({ length: CALLS }, () => {
    const begin = performance.now();
    ask();
    return performance.now() - begin;
  });
  closeSync(fd);
  return times;
}

function cell(times: readonly number[]): string {
  const sorted = [...times].sort((one, other) => one - other);
  const at = (part: number): string => (sorted[Math.floor((sorted.length - 1) * part)] ?? 0).toFixed(2);
  return `${at(0.5)} ms (${at(0.1)} to ${at(0.9)})`;
}

const missing = missingDaemon('9.0.0') ?? missingDaemon('ours') ?? missingGluster();
if (missing !== undefined) throw new Error(missing);

const measured = new Map<string, Times>();
const timesOf = (contender: string, { title }: Subject): Times => {
  const key = `${contender} ${title}`;
  const times = measured.get(key) ?? { acquire: [], release: [] };
  measured.set(key, times);
  return times;
};
const asked: number[] = [];

interface Started {
  readonly title: string;
  readonly daemon: LockDaemon;
  readonly peer: Peer;
}

/** Round 0 warms up. */
async function measureRound(
  round: number,
  started: readonly Started[],
  gluster: Gluster,
  outside: string,
): Promise<void> {
  for (const { title, peer } of started)
    for (const subject of subjects) {
      const path = gluster.at(subject.flags === 0 ? 'there' : `lease of ${title}`);
      const times = round === 0 ? { acquire: [], release: [] } : timesOf(title, subject);
      await measure(peer, path, subject.flags, times);
    }
  const times = requests(outside);
  if (round > 0) asked.push(...times);
}

const first = await openLab(contenders[0].kind);
const labs = [first];
const started: Started[] = [];
const gluster = await Gluster.start(first);
try {
  for (const { title, kind, configuration } of contenders) {
    const isFirst = started.length === 0;
    const lab = isFirst ? first : await openLab(kind, [first.directory]);
    if (!isFirst) {
      labs.push(lab);
      await gluster.mountIn(lab);
    }
    const daemon = await startDaemon(kind, { lab, configuration });
    const peer = await daemon.connect();
    started.push({ title, daemon, peer });
    await peer.must(lock.register({ pid: NOBODY, name: 'bench' }));
  }
  const there = first.outside(gluster.at('there'));
  writeFileSync(there, '');
  for (let round = 0; round <= ROUNDS; round++) await measureRound(round, started, gluster, there);
} finally {
  for (const { daemon } of started) await daemon.stop();
  await gluster.end();
  for (const lab of labs.reverse()) await lab.close();
}

const rows = subjects.flatMap((subject) =>
  (['acquire', 'release'] as const).map((call) => [
    `${call.toUpperCase()} of ${subject.title}`,
    ...contenders.map(({ title }) => cell(timesOf(title, subject)[call])),
  ]),
);
rows.push(['one more request for a lock that is held', cell(asked), '', '']);
const head = ['on GlusterFS, median (10 % to 90 %)', ...contenders.map(({ title }) => title)];
for (const row of [head, head.map(() => '---'), ...rows]) process.stdout.write(`| ${row.join(' | ')} |\n`);
