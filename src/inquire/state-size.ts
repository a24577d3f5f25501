/** Whether a C daemon could read our state document, estimated from the numbers of `status`. */
import type { StatusInfo } from '../../xdr/programs/inquire.ts';
import { MAX_FILE } from '../libvirt/limits.ts';

/** Approximate bytes of a lock and of a client in our document. */
const LOCK_BYTES = 330;
const CLIENT_BYTES = 420;
/** The estimate may be too low by the rest. */
const NEARLY = 0.9;

/** A warning for the operator; undefined when it could. */
export function tooLargeForC({
  locks,
  lockServer,
  adminServer,
}: Pick<StatusInfo, 'locks' | 'lockServer' | 'adminServer'>): string | undefined {
  const bytes = locks * LOCK_BYTES + (lockServer.clients + adminServer.clients) * CLIENT_BYTES;
  if (bytes <= MAX_FILE * NEARLY) return undefined;
  const size = Math.round(bytes / 1024 / 1024);
  return `the state takes about ${size} MiB and a C daemon reads 10: there is no live swap back to it`;
}
