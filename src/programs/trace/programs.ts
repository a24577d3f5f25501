/** The known programs, by the numbers in a header. */
import type { AnyProcedure, Program } from '../../../xdr/program.ts';
import { adminProgram, ShutdownFlag } from '../../../xdr/programs/admin.ts';
import { changesEvent, inquireProgram, LocksFlag } from '../../../xdr/programs/inquire.ts';
import { KEEPALIVE_PROGRAM, KEEPALIVE_VERSION, KeepaliveProcedure } from '../../../xdr/programs/keepalive.ts';
import { AcquireFlag, lockProgram } from '../../../xdr/programs/lock.ts';
import type { Shape } from '../../../xdr/schema.ts';

const nothing: Shape = { kind: 'void' };

/** A procedure or an event. */
export interface Known {
  readonly name: string;
  readonly args: Shape;
  readonly result: Shape;
}

interface KnownProgram {
  readonly name: string;
  readonly version: number;
  readonly procedures: ReadonlyMap<number, Known>;
}

function known(program: Program<object>, events: readonly [number, Known][] = []): [number, KnownProgram] {
  const procedures = Object.entries(program.procedures as Record<string, AnyProcedure>).map(
    ([name, { number, args, result }]): [number, Known] => [
      number,
      { name: `${program.name}.${name}`, args: args.shape, result: result.shape },
    ],
  );
  const { name, version } = program;
  return [program.number, { name, version, procedures: new Map([...procedures, ...events]) }];
}

const changes: Known = { name: 'inquire.changes', args: changesEvent.payload.shape, result: nothing };
const keepalive = Object.entries(KeepaliveProcedure).map(([name, number]): [number, Known] => [
  number,
  { name: `keepalive.${name.toLowerCase()}`, args: nothing, result: nothing },
]);

const PROGRAMS: ReadonlyMap<number, KnownProgram> = new Map([
  known(lockProgram),
  known(adminProgram),
  known(inquireProgram, [[changesEvent.number, changes]]),
  [KEEPALIVE_PROGRAM, { name: 'keepalive', version: KEEPALIVE_VERSION, procedures: new Map(keepalive) }],
]);

export function isKnownProgram(program: number): boolean {
  return PROGRAMS.has(program);
}

/** The procedure or event of a header, or undefined. */
export function lookUp(program: number, version: number, procedure: number): Known | undefined {
  const found = PROGRAMS.get(program);
  return found?.version === version ? found.procedures.get(procedure) : undefined;
}

/** The name of a procedure; with numbers for the parts that are unknown. */
export function nameOf(program: number, version: number, procedure: number): string {
  const found = PROGRAMS.get(program);
  if (found === undefined) return `0x${program.toString(16).padStart(8, '0')}.v${version}.${procedure}`;
  if (found.version !== version) return `${found.name}.v${version}.${procedure}`;
  return found.procedures.get(procedure)?.name ?? `${found.name}.${procedure}`;
}

const FLAGS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'lock.acquireResource': AcquireFlag,
  'admin.shutdown': ShutdownFlag,
  'inquire.locks': LocksFlag,
};

/** The names of a call's flags, such as `SHARED|AUTOCREATE`, unknown bits in hex. Empty if no flag has a name. */
export function flagNames(procedure: string, flags: number): string {
  let left = flags;
  const names: string[] = [];
  for (const [name, bit] of Object.entries(FLAGS[procedure] ?? {})) {
    if ((left & bit) === 0) continue;
    names.push(name);
    left &= ~bit;
  }
  return left === 0 || names.length === 0 ? names.join('|') : `${names.join('|')}|0x${(left >>> 0).toString(16)}`;
}
