/** Explains a line of a transcript in words. */
import { ErrorCode, ErrorDomain } from '../../../../xdr/error.ts';
import { adminProgram } from '../../../../xdr/programs/admin.ts';
import { lockProgram } from '../../../../xdr/programs/lock.ts';

const procedureNames = new Map<string, string>();
for (const [program, { procedures }] of Object.entries({ lock: lockProgram, admin: adminProgram })) {
  for (const [name, { number }] of Object.entries<{ number: number }>(procedures)) {
    procedureNames.set(`${program} ${number}`, name.replace(/[A-Z]/g, '_$&').toUpperCase());
  }
}
procedureNames.set('keepalive 1', 'PING').set('keepalive 2', 'PONG');

/** Arguments of the lock program, in their order. */
const owner = ['uuid', 'owner', 'id', 'pid', 'flags'];
const resource = ['lockspace', 'resource', 'flags'];
const argumentNames = new Map<string, readonly string[]>([
  ['lock 1', owner],
  ['lock 2', ['flags']],
  ['lock 3', ['lockspace', 'flags']],
  ...[4, 5, 6, 7].map((number) => [`lock ${number}`, resource] as const),
  ['lock 8', ['lockspace']],
]);

const nameOf = (values: Readonly<Record<string, number>>, wanted: number): string =>
  Object.entries(values).find(([, value]) => value === wanted)?.[0] ?? String(wanted);

const message = /^\S+ [<>] (CALL\S*|REPLY\S*|MESSAGE|STREAM\S*|type:\S+) (\S+) (?:version:\S+ )?(-?\d+) #\d+(.*)$/;
const tokens = /"(?:[^"\\]|\\.)*"(?:\{\d+\})?|\S+/g;

function errorText(payload: string): string | undefined {
  const [code, domain, present, text] = payload.match(tokens) ?? [];
  if (code === undefined || domain === undefined) return undefined;
  const said = present === '1' ? `: ${text ?? ''}` : '';
  return `${nameOf(ErrorCode, Number(code))} from ${nameOf(ErrorDomain, Number(domain))}${said}`;
}

/** @returns the procedure of a message with its arguments or error; undefined for other lines */
export function decoded(line: string): string | undefined {
  const [, type = '', program = '', procedure = '', rest = ''] = message.exec(line.replace(/^\d+ times: /, '')) ?? [];
  const key = `${program} ${procedure}`;
  const name = procedureNames.get(key);
  if (name === undefined) return undefined;
  const [status = '', payload = ''] = rest.split(/ ?\| (.*)/s, 2);
  if (type === 'REPLY') {
    if (status.trim() !== 'ERROR') return `${name}: success`;
    return `${name}: ${errorText(payload) ?? 'an error'}`;
  }
  const values = payload.match(tokens) ?? [];
  const names = argumentNames.get(key);
  if (type !== 'CALL' || names?.length !== values.length) return name;
  return `${name} ${names.map((label, index) => `${label} ${value(label, values[index] ?? '')}`).join(', ')}`;
}

/** The transcript shows an empty string, and flags, as a number. */
function value(label: string, token: string): string {
  if (label === 'flags') return ['none', 'SHARED', 'AUTOCREATE', 'SHARED|AUTOCREATE'][Number(token)] ?? token;
  return token === '0' && ['lockspace', 'resource', 'owner'].includes(label) ? '""' : token;
}
