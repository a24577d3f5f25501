/**
 * A program: a number, a version and its procedures, described once. Dispatch, client calls, traces, the fuzzer and
 * docs/wire.md are all made from the description.
 */
import { nothing, type Xdr } from './schema.ts';

/** Which bits of the argument `flags` a procedure takes. */
export interface FlagRule {
  readonly allowed: number;
  /** The C function that errors about other bits name. */
  readonly reportedAs: string;
  /** The handler looks at them, behind other checks; elsewhere they are looked at before the handler is called. */
  readonly late?: true;
}

/** One procedure of a program. `Args` holds the flags as field `flags` where the procedure has them. */
export interface Procedure<Args, Result> {
  readonly number: number;
  readonly args: Xdr<Args>;
  readonly result: Xdr<Result>;
  /** One sentence for the documentation. */
  readonly doc: string;
  /** The bits allowed in the argument `flags`; absent where any flags, or none at all, are taken. */
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

/** What implements a program for a context `C` (the calling connection): one function a procedure. */
export type Handlers<P, C> = { [K in keyof P]: (context: C, args: ArgsOf<P[K]>) => ResultOf<P[K]> };

/** Describes a procedure; a missing `result` means that success has no payload. */
export function procedure<A, R = undefined>(
  number: number,
  description: Omit<Procedure<A, R>, 'number' | 'result'> & { readonly result?: Xdr<R> },
): Procedure<A, R> {
  return { number, result: nothing as Xdr<never>, ...description };
}
