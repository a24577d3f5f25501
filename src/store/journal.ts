/**
 * How a process of the daemon's unit has ended, by the service manager's message in the journal. The manager itself forgets that when it
 * starts the next process, before which nothing can be asked without delay: `systemctl show` of systemd 252 then has ExecMainCode=0,
 * ExecMainStatus=0, Result=success and no status of ExecStart=. The kernel reports it only from Linux 6.15 on (PIDFD_INFO_EXIT).
 */
import { outputOf } from '../posix/child.ts';
import { signalName } from '../posix/signal-name.ts';

/** By a signal, or by itself with a status. */
export type ProcessEnd = { readonly signal: number } | { readonly status: number };

/** SD_MESSAGE_UNIT_PROCESS_EXIT, see systemd.journal-fields(7). It has EXIT_CODE, EXIT_STATUS and COMMAND. */
const MESSAGE_ID = '98e322203f7a4ed290d09fe03c09fe15';
/** How long journalctl may take, in milliseconds. */
const LIMIT_MS = 10_000;

/**
 * Undefined when the journal has no message, or none yet.
 *
 * @param invocation $INVOCATION_ID of the process
 */
export async function askEnd(invocation: string, manager: 'system' | 'user'): Promise<ProcessEnd | undefined> {
  if (!/^[0-9a-f]{32}$/.test(invocation)) return undefined;
  const field = manager === 'system' ? 'INVOCATION_ID' : 'USER_INVOCATION_ID';
  const args = ['--quiet', '--no-pager', '--output=json', '--lines=1'];
  const matches = [`MESSAGE_ID=${MESSAGE_ID}`, 'COMMAND=ExecStart', `${field}=${invocation}`];
  return parseEnd((await outputOf('journalctl', [...args, ...matches], LIMIT_MS)) ?? '');
}

/** @param line of JSON */
export function parseEnd(line: string): ProcessEnd | undefined {
  let fields: { readonly EXIT_CODE?: unknown; readonly EXIT_STATUS?: unknown } | null;
  try {
    fields = JSON.parse(line) as typeof fields;
  } catch {
    return undefined;
  }
  const { EXIT_CODE: code, EXIT_STATUS: status } = fields ?? {};
  if (typeof status !== 'string' || !/^\d{1,3}$/.test(status)) return undefined;
  if (code === 'exited') return { status: Number(status) };
  return code === 'killed' || code === 'dumped' ? { signal: Number(status) } : undefined;
}

/** As it completes "the daemon". */
export function endText(end: ProcessEnd): string {
  return 'status' in end ? `ended with status ${end.status}` : `was killed by ${signalName(end.signal)}`;
}
