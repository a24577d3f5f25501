/** The matrix as data: rows (lock daemons), columns (kinds of checks), and cells (results). */
import { groups } from '../conformance/check.ts';
import { type DaemonKind, type Generation, generations } from '../../lab/generation.ts';

export const rows: readonly DaemonKind[] = [...generations, 'ours'];

/** The columns by family. */
export const families = {
  conformance: groups,
  libvirtd: generations.map((generation) => `libvirtd-${generation}` as const),
  'virt-admin': generations.map((generation) => `virt-admin-${generation}` as const),
} as const;

export type Family = keyof typeof families;
export type Column = (typeof families)[Family][number];

export const columns: readonly Column[] = Object.values(families).flat();

/** A column's family, and the release on the other side of the socket where there is one. */
export function partsOf(column: Column): { family: Family; generation?: Generation } {
  for (const family of ['libvirtd', 'virt-admin'] as const) {
    const generation = generations.find((name) => column === `${family}-${name}`);
    if (generation !== undefined) return { family, generation };
  }
  return { family: 'conformance' };
}

export const rowTitle = (row: DaemonKind): string => (row === 'ours' ? 'this daemon' : `C ${row}`);

export const columnTitle = (column: Column): string => column.replace(/^(libvirtd|virt-admin)-/, '$1 ');

export interface Check {
  /** Stable. */
  readonly name: string;
  /** One sentence: what the interface promises. */
  readonly promise: string;
  readonly verdict: 'pass' | 'fail' | 'skip';
  /** The expected and the seen lines; of failures only. */
  readonly expected?: readonly string[];
  readonly seen?: readonly string[];
  /** Why it failed or was skipped. */
  readonly detail?: string;
  /** The defect that explains it, according to the conformance suite. */
  readonly known?: string;
}

export interface Cell {
  readonly row: DaemonKind;
  readonly column: Column;
  /** The versions of both sides: a cell is run again when one has changed. */
  readonly sides: readonly string[];
  readonly checks: readonly Check[];
  /** Why it was not run to its end. Such a cell has no colour. */
  readonly broken?: string;
  readonly seconds: number;
}
