/**
 * A sequence: the steps of one run, as plain JSON, so that a finding is a file. Paths are relative to the daemon's working
 * directory, and `~` in a name stands for a directory of this run alone.
 */
import type { Header } from '../../../xdr/frame.ts';
import type { AnyProcedure } from '../../../xdr/program.ts';
import { adminProgram } from '../../../xdr/programs/admin.ts';
import { inquireProgram } from '../../../xdr/programs/inquire.ts';
import { lockProcedures, lockProgram } from '../../../xdr/programs/lock.ts';

/** Values as JSON holds them: opaque data is hexadecimal, a 64-bit number a string. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The daemon's two servers, by their names in the admin program. */
export type ServerName = 'virtlockd' | 'admin';
export const serverNames: readonly [ServerName, ServerName] = ['virtlockd', 'admin'];

/** A program, by the name of its description. */
export type ProgramName = 'lock' | 'admin' | 'inquire';

const programs = { lock: lockProgram, admin: adminProgram, inquire: inquireProgram } as const;

export type CallName = keyof typeof lockProcedures;
export const callNames = Object.keys(lockProcedures) as [CallName, ...CallName[]];

/** A call of a program, by default of the lock program. */
export interface Call {
  readonly program?: Exclude<ProgramName, 'lock'>;
  readonly call: string;
  readonly args: Json;
}

/** Changes to a well-formed message before it is sent. */
export interface Edit {
  readonly header?: Partial<Header>;
  /** Bytes to write over the message at an offset, hexadecimal. */
  readonly put?: readonly (readonly [number, string])[];
  /** This many bytes are cut from the payload's end; the length word changes too unless `length` is given. */
  readonly cut?: number;
  /** Bytes behind the payload, hexadecimal. */
  readonly tail?: string;
  readonly length?: number;
  /** Sent in pieces of these sizes, the rest in one. */
  readonly pieces?: readonly number[];
  /** Milliseconds between two pieces, so that a real daemon reads each by itself. */
  readonly pause?: number;
  /** Makes it a CALL_WITH_FDS that announces and sends such numbers of descriptors, each with a byte of its own. */
  readonly descriptors?: { readonly announced: number; readonly sent: number };
  /** Unannounced descriptors attached to the message itself. */
  readonly stray?: number;
}

export type FileAct = 'create' | 'unlink' | 'rename' | 'link' | 'symlink' | 'mkdir';

/** A list that the inquire program returns in pages. */
export type ListName = 'locks' | 'lockspaces' | 'clients';

export type Step =
  /** From here on, successive calls on one connection are sent together. */
  | { readonly op: 'gather' }
  | { readonly op: 'open'; readonly on: number; readonly to?: 'admin' }
  | ({ readonly op: 'call'; readonly on: number; readonly edit?: Edit } & Call)
  | { readonly op: 'raw'; readonly on: number; readonly hex: string }
  /** Several calls in one write. */
  | { readonly op: 'burst'; readonly on: number; readonly calls: readonly Call[] }
  /** The same, but the connection is closed before any reply is read. */
  | { readonly op: 'reset'; readonly on: number; readonly calls: readonly Call[] }
  /** Requests a list, page after page to its end. */
  | {
      readonly op: 'walk';
      readonly on: number;
      readonly list: ListName;
      readonly filter?: Json;
      readonly limit: number;
    }
  | { readonly op: 'finish' | 'close'; readonly on: number }
  | { readonly op: 'restart' }
  | { readonly op: 'file'; readonly act: FileAct; readonly name: string; readonly to?: string };

export type Sequence = readonly Step[];

export function programOf(name: ProgramName = 'lock'): { readonly number: number; readonly version: number } {
  return programs[name];
}

/** The procedures of a program by name. */
export function proceduresOf(name: ProgramName = 'lock'): Readonly<Record<string, AnyProcedure>> {
  const { procedures }: { readonly procedures: object } = programs[name];
  return procedures as Readonly<Record<string, AnyProcedure>>;
}

export function procedureOf(name: string, program?: ProgramName): AnyProcedure {
  const found = proceduresOf(program)[name];
  if (found === undefined) throw new Error(`no procedure '${name}'`);
  return found;
}
