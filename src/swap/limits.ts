/**
 * Holds newcomers back. A C daemon exits, and loses every lock, if a client has connected but not registered when SIGUSR1
 * arrives. A limit equal to the number of clients stops it from accepting: newcomers wait in the backlog. A file keeps the
 * former limits, so that the next run can restore them after an interruption.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Client } from '../client/client.ts';
import { ProtocolError } from '../client/errors.ts';
import { adminProgram, ParameterType, type TypedParameter } from '../../xdr/programs/admin.ts';
import { statOf } from '../proc/processes.ts';

export interface Limits {
  readonly clients: number;
  readonly unauthenticated: number;
}

const server = { name: 'virtlockd' };

function valueOf(params: readonly TypedParameter[], field: string): number {
  const param = params.find((candidate) => candidate.field === field);
  if (param?.value.type !== ParameterType.UINT) throw new ProtocolError(`the daemon did not report ${field}`);
  return param.value.value;
}

export async function readLimits(admin: Client): Promise<Limits> {
  const { params } = await admin.call(adminProgram, 'getClientLimits', { server, flags: 0 });
  return { clients: valueOf(params, 'nclients_max'), unauthenticated: valueOf(params, 'nclients_unauth_max') };
}

export async function setLimits(admin: Client, limits: Limits): Promise<void> {
  const param = (field: string, value: number): TypedParameter => ({
    field,
    value: { type: ParameterType.UINT, value },
  });
  const params = [param('nclients_max', limits.clients), param('nclients_unauth_max', limits.unauthenticated)];
  await admin.call(adminProgram, 'setClientLimits', { server, params, flags: 0 });
}

function noteFile(directory: string, pid: number): string {
  return `${directory}/virtlockd-swap-${pid}.json`;
}

function startTime(pid: number): string {
  return String(statOf(pid).startTime);
}

/** The limits that an interrupted swap of this process must restore. */
export function notedLimits(directory: string, pid: number): Limits | undefined {
  try {
    const note = JSON.parse(readFileSync(noteFile(directory, pid), 'utf8')) as Limits & { started: string };
    return note.started === startTime(pid) ? note : undefined;
  } catch {
    return undefined;
  }
}

export function noteLimits(directory: string, pid: number, limits: Limits): void {
  const file = noteFile(directory, pid);
  writeFileSync(`${file}.new`, JSON.stringify({ ...limits, started: startTime(pid) }), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

export function forgetLimits(directory: string, pid: number): void {
  rmSync(noteFile(directory, pid), { force: true });
}
