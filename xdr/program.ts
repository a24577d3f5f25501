/**
 * A program: a number, a version and its procedures. Dispatch, client calls, traces, the fuzzer and docs/wire.md all come from this
 * description.
 */
import { nothing, type Xdr } from './schema.ts';

/** The bits of the argument `flags` that a procedure takes. */
export interface FlagRule {
  readonly allowed: number;
  /** The C function that errors about other bits name. */
  readonly reportedAs: string;
  /** The handler checks them, behind other checks. Otherwise dispatch does, before it calls the handler. */
  readonly late?: true;
}

export function noFlags(reportedAs: string): FlagRule {
  return { allowed: 0, reportedAs };
}

/** One procedure of a program. If it takes flags, they are the field `flags` of `Args`. */
export interface Procedure<Args, Result> {
  readonly number: number;
  readonly args: Xdr<Args>;
  readonly result: Xdr<Result>;
  /** One sentence for the documentation. */
  readonly doc: string;
  /** Absent where a procedure takes any flags, or has no such argument. */
  readonly flags?: FlagRule;
  /** The first libvirt version (major * 1000000 + minor * 1000 + micro) that knows the procedure. */
  readonly since?: number;
}

/** Any procedure, its types forgotten. */
export type AnyProcedure = Procedure<never, never>;

export interface Program<P = Record<string, AnyProcedure>> {
  readonly name: string;
  readonly number: number;
  readonly version: number;
  readonly doc: string;
  readonly procedures: P;
}

export type ArgsOf<P> = P extends { readonly args: Xdr<infer A> } ? A : never;
export type ResultOf<P> = P extends { readonly result: Xdr<infer R> } ? R : never;

/** The implementation of a program for a context `C` (that of the calling connection): one function a procedure. */
export type Handlers<P, C> = { [K in keyof P]: (context: C, args: ArgsOf<P[K]>) => ResultOf<P[K]> };

/** Describes a procedure. Without a `result`, success has no payload. */
export function procedure<A, R = undefined>(
  number: number,
  description: Omit<Procedure<A, R>, 'number' | 'result'> & { readonly result?: Xdr<R> },
): Procedure<A, R> {
  return { number, result: nothing as Xdr<never>, ...description };
}
