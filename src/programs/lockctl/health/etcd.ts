/** This host's lease in etcd, and what would end the owners of locks on it. */
import type { EtcdInfo, LockInfo } from '../../../../xdr/programs/inquire.ts';
import { isKeptInEtcd } from '../etcd-locks.ts';
import type { InquireClient } from '../inquire-client.ts';
import { count, name, owner } from '../output.ts';
import type { Findings } from './findings.ts';

const LOOK_AT_ETCD =
  'See why the members do not answer: etcdctl endpoint status, and the network between. docs/operations/etcd.md says what is lost when.';
const NO_WATCHDOG =
  'Set etcd_watchdog in virtlockd.conf to the device, such as "/dev/watchdog0"; or to "none" where there is none, or power fencing alone is relied on.';

/** Adds what is wrong with it. Nothing where no lockspace is kept in etcd. */
export async function addEtcd(daemon: InquireClient, findings: Findings): Promise<void> {
  const etcd = await daemon.etcd();
  if (etcd === null) return;
  await addLease(daemon, etcd, findings);
  const { isGuarded, locks, hasWatchdog, watchdog } = etcd;
  if (!isGuarded) {
    const cost =
      locks === 0 ? 'no lock is granted' : `${count(locks, 'lock')} with owners that only the daemon would end`;
    findings.add(
      'etcd-unguarded',
      { text: `the daemon's guard does not run, or has not got all owners: ${cost}` },
      'The log of the daemon says why. It starts another guard all the time.',
    );
  }
  if (!hasWatchdog && watchdog !== 'none') {
    const text = watchdog === '' ? 'none is configured' : `${name(watchdog)} is not fed`;
    findings.add('etcd-no-watchdog', { text }, NO_WATCHDOG);
  }
}

async function addLease(daemon: InquireClient, etcd: EtcdInfo, findings: Findings): Promise<void> {
  const { lease, isOver, failure, age, left, locks } = etcd;
  const why = failure === '' ? '' : `: ${name(failure)}`;
  if (isOver) {
    findings.add('etcd-lease', { text: `it has ended, and its owners are being killed${why}` }, LOOK_AT_ETCD);
    for (const text of await holdersIn(daemon, etcd, 'is being killed')) findings.add('etcd-lease', { text });
  } else if (lease === '') {
    findings.add('etcd-silent', { text: `this host has no lease, and no lock is granted there${why}` }, LOOK_AT_ETCD);
  } else if (locks > 0 && left < age) {
    const text = `etcd has not answered a keepalive for ${seconds(age)}, and owners are killed in ${seconds(left)}${why}`;
    findings.add('etcd-lease', { text }, LOOK_AT_ETCD);
    for (const holder of await holdersIn(daemon, etcd, 'would be killed')) findings.add('etcd-lease', { text: holder });
  } else if (failure !== '') {
    const cost = locks === 0 ? 'no lock is held there' : `${count(locks, 'lock')} and their owners would end with it`;
    const text = `${name(failure)}; the lease ends in ${seconds(left)}, and ${cost}`;
    findings.add('etcd-silent', { text }, LOOK_AT_ETCD);
  }
}

/** A text for each owner. */
async function holdersIn(daemon: InquireClient, etcd: EtcdInfo, what: string): Promise<string[]> {
  const held = new Map<string, number>();
  const note = ({ lockspace, holds }: LockInfo): void => {
    if (!isKeptInEtcd(etcd, lockspace)) return;
    for (const { owner: who } of holds) held.set(owner(who), (held.get(owner(who)) ?? 0) + 1);
  };
  for await (const page of daemon.lockPages()) page.forEach(note);
  return Array.from(held, ([who, locks]) => `${who} with ${count(locks, 'lock')} ${what}`);
}

export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
