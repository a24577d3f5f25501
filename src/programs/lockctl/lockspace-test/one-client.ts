/**
 * Two mounts of one NFSv4 export in one network namespace (`nosharecache`) are one client to the server, which counts locks, opens and
 * delegations by client. So it recalls no delegation of the one mount when the other removes a file, and the kernel goes on answering from that.
 * Between hosts it does recall it: what these checks find here is not what they would find there.
 */
import type { CheckResult } from './checks.ts';
import type { Place } from './protocol.ts';

/** The checks that a delegation answers: see {@link runChecks}. */
const DELEGATED: ReadonlySet<string> = new Set(['replaced', 'reported']);

export function isOneClient(first: Place, second: Place): boolean {
  return (
    first.type === 'nfs4' &&
    second.type === 'nfs4' &&
    first.boot !== '' &&
    first.boot === second.boot &&
    first.network === second.network
  );
}

/** What the check shows between two mounts of one client. */
export function betweenMountsOfOneClient(result: CheckResult): CheckResult {
  if (result.result === 'ok' || !DELEGATED.has(result.check)) return result;
  return {
    ...result,
    result: 'unknown',
    found: [
      `not shown: ${result.title}. To an NFSv4 server both mounts are one host: test with --peer, or mount it again in another network namespace`,
    ],
  };
}
