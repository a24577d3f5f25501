/** Finds errors in the facts of a run. */
import type { Facts, Operation, Span } from './facts.ts';

export interface Finding {
  readonly kind: string;
  readonly detail: string;
}

const overlap = (a: Span, b: Span): boolean => a.from <= b.to && b.from <= a.to;
const within = (at: number, span: Span): boolean => span.from <= at && at <= span.to;

/** libvirt's errors for a call whose connection ended. */
const DIED =
  /End of file while reading|Cannot (?:recv|write) data|Connection reset|Broken pipe|Failed to connect|closed socket|unable to connect|Child quit during startup handshake|Unable to release lease/i;

/**
 * libvirtd's messages about its own restart during calls. libvirt 9.0.0's libvirtd.service requires virtlockd.socket, so systemd
 * restarts both.
 */
const RESTARTED = /Make forcefull daemon shutdown|virGDBusCallMethod/;

/** An operation may fail only because one of its calls died with the daemon. */
function isExcused(operation: Operation, { deaths }: Facts): boolean {
  return (
    operation.error !== undefined && DIED.test(operation.error) && deaths.some((death) => overlap(death, operation))
  );
}

/** The last death before an instant, in words. */
function after(at: number, { deaths }: Facts): string {
  const last = deaths.findLast(({ from }) => from <= at);
  return last === undefined ? 'before the first death' : `${Math.round((at - last.from) / 1e6)} ms after ${last.way}`;
}

export function judge(facts: Facts): Finding[] {
  const { held, operations, free, grants, problems, log } = facts;
  const findings: Finding[] = problems.map(({ kind, detail }) => ({ kind, detail }));
  for (const { at, file } of free) {
    const span = held.find((one) => one.file === file && within(at, one));
    if (span !== undefined) {
      findings.push({
        kind: 'lock free',
        detail: `${span.guest} has run for ${Math.round((at - span.from) / 1e6)} ms, ${after(at, facts)}`,
      });
    }
  }
  for (const grant of grants) {
    const span = held.find((one) => one.file === grant.file && one.from <= grant.from && grant.to <= one.to);
    if (span !== undefined)
      findings.push({
        kind: 'granted to a rival',
        detail: `the disk of ${span.guest}, which ran, ${after(grant.to, facts)}`,
      });
  }
  for (const operation of operations) {
    if (operation.error === undefined || isExcused(operation, facts)) continue;
    findings.push({
      kind: 'operation failed',
      detail: `${operation.name} ${operation.guest}, ${after(operation.from, facts)}: ${operation.error}`,
    });
  }
  const isRestarted = facts.deaths.some(({ way }) => way === 'socket-restart');
  for (const line of new Set(log)) {
    if (isRestarted && RESTARTED.test(line)) continue;
    if (!DIED.test(line)) findings.push({ kind: "in libvirtd's log", detail: line });
  }
  return findings;
}
