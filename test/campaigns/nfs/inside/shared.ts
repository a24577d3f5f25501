/** Locks that two hosts share: whether they do, and what each says about those of the other. */
import type { Stage } from './stage.ts';
import { pathOf } from './owner.ts';

/** For an answer of the storage under emulation, in seconds. */
const LIMIT = '60';

/** `lockspace test` between the hosts, and between two mounts of one. */
export async function spaces(stage: Stage): Promise<void> {
  const { hosts, report } = stage;
  for (const [between, ...args] of [
    ['hosts', '--peer', hosts[1].entrance],
    ['mounts', '--also', stage.at('locks', true)],
  ] as const) {
    const { code, output } = await hosts[0].lockctl('lockspace', 'test', ...args, '--limit', LIMIT, stage.at('locks'));
    report.say(`lockspace test between ${between}`, output);
    // Two mounts of one NFSv4 client cannot show everything.
    const isUnknown =
      between === 'mounts' && stage.version !== '3' && output.includes('To an NFSv4 server both mounts are one host');
    report.check(
      `lockspace test between ${between} finds nothing`,
      isUnknown ? !output.includes('FAIL') : code === 0,
      output,
    );
  }
}

/** What host 2 is told about a lock of host 1, by a lock file and by an image itself. */
export async function refusal(stage: Stage): Promise<void> {
  const { hosts, report } = stage;
  const [, two] = hosts;
  const image = stage.image('plain.img');
  const before = stage.content('plain.img');
  const indirect = stage.indirect('db');
  const one = await stage.owner(await stage.daemon(1), 'db');
  const other = await stage.owner(await stage.daemon(2), 'web');
  await one.hold(indirect, image);

  for (const [what, lock] of [
    ['the lock file', indirect],
    ['the image', image],
  ] as const) {
    const refused = await other.acquire(lock);
    report.check(`host 2 is refused ${what}`, refused?.code === 87, refused?.message ?? 'granted');
  }
  const named = /db \(pid \d+\) on host node1/;
  const refusals = await two.lockctl('refusals');
  report.say('refusals on host 2', refusals.output);
  report.check("refusals name host 1's guest and host", named.test(refusals.stdout), refusals.output);
  for (const [what, args, says] of [
    ['why, of the lock file', ['why', '--lockspace', indirect.lockspace, '--autocreate', indirect.name], named],
    ['who, of the lock file', ['who', pathOf(indirect)], /db .*on host node1/],
    ['why, of the image', ['why', image.name], /another host/i],
    ['who, of the image', ['who', image.name], /another host/i],
  ] as const) {
    const { output } = await two.lockctl(...args);
    report.say(`${what}, on host 2`, output);
    report.check(`${what}, says what it should on host 2`, says.test(output), output);
  }
  const check = await hosts[0].lockctl('check');
  report.check('check on host 1 finds nothing', check.code === 0, check.output);

  for (const [what, lock] of [
    ['the lock file', indirect],
    ['the image', image],
  ] as const) {
    const error = await one.release(lock);
    report.check(`host 1 releases ${what}`, error === undefined, error?.message ?? '');
    const refused = await other.acquire(lock);
    report.check(`host 2 gets ${what} then`, refused === undefined, refused?.message ?? '');
  }
  const pool = { ...stage.image('pool.img'), isShared: true };
  await one.hold(pool);
  const refusedExclusive = await other.acquire({ ...pool, isShared: false });
  report.check('host 2 is refused an exclusive lock beside a shared one', refusedExclusive?.code === 87);
  const why = await two.lockctl('why', pool.name);
  report.say('why, of an image that host 1 shares, on host 2', why.output);
  // An NFSv3 server does not report it to F_GETLK.
  const isKnown = why.code === 1 || (stage.version === '3' && why.output.includes('reports no shared locks'));
  report.check('why does not promise an exclusive lock beside a shared one', isKnown, why.output);
  await other.hold(pool);
  report.check('the image keeps its bytes', stage.content('plain.img') === before);
}
