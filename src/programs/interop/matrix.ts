/** Runs the cells of the matrix, some at a time, and keeps their results. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { groups } from '../conformance/check.ts';
import type { DaemonKind } from '../../lab/generation.ts';
import { adminCell } from './admin.ts';
import { conformanceCell } from './conformance.ts';
import { guestCell } from './guests.ts';
import { type Cell, type Check, type Column, columns, partsOf, rows } from './model.ts';
import { sidesOf } from './provenance.ts';

/** The cells of earlier runs, in a file that is replaced after each cell. */
export class Results {
  readonly #file: string;
  readonly #cells = new Map<string, Cell>();

  /** @throws Error when the file cannot be parsed */
  constructor(file: string) {
    this.#file = file;
    let text;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    const { cells } = JSON.parse(text) as { cells: Cell[] };
    for (const cell of cells) this.#cells.set(`${cell.row} ${cell.column}`, cell);
  }

  get(row: DaemonKind, column: Column): Cell | undefined {
    return this.#cells.get(`${row} ${column}`);
  }

  /** All present cells, row after row. */
  get cells(): Cell[] {
    return rows.flatMap((row) => columns.flatMap((column) => this.get(row, column) ?? []));
  }

  put(cell: Cell): void {
    this.#cells.set(`${cell.row} ${cell.column}`, cell);
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(`${this.#file}.new`, `${JSON.stringify({ cells: this.cells }, undefined, 1)}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}

export interface Plan {
  readonly rows: readonly DaemonKind[];
  readonly columns: readonly Column[];
  /** Run unchanged cells again. */
  readonly fresh: boolean;
  /** Cells at a time. */
  readonly jobs: number;
  /** The longest time for a cell, and the time after which no cell begins; in seconds. */
  readonly cellLimit: number;
  readonly limit: number;
  /** Ends the run; results of unfinished cells are dropped. */
  readonly signal: AbortSignal;
  /** A cell begins a step. */
  readonly onStep: (row: DaemonKind, column: Column, step: string) => void;
  /** A cell is finished; `kept`: from an earlier run. */
  readonly onCell: (cell: Cell, kept: boolean) => void;
}

async function checksOf(
  row: DaemonKind,
  column: Column,
  progress: (step: string) => void,
  signal: AbortSignal,
): Promise<Check[]> {
  const { family, generation } = partsOf(column);
  if (family === 'libvirtd' && generation !== undefined) return guestCell(row, generation, progress, signal);
  if (family === 'virt-admin' && generation !== undefined) return adminCell(row, generation);
  const group = groups.find((name) => name === column);
  if (group === undefined) throw new Error(`no group ${column}`);
  return conformanceCell(row, group, progress, signal);
}

async function runCell(row: DaemonKind, column: Column, sides: readonly string[], plan: Plan): Promise<Cell> {
  const start = performance.now();
  const cell = (checks: readonly Check[]): Cell => {
    const seconds = Math.round((performance.now() - start) / 1000);
    return { row, column, sides, checks, seconds };
  };
  const signal = AbortSignal.any([plan.signal, AbortSignal.timeout(plan.cellLimit * 1000)]);
  const progress = (step: string): void => plan.onStep(row, column, step);
  try {
    return cell(await checksOf(row, column, progress, signal));
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    return { ...cell([]), broken: signal.aborted ? `not done within ${plan.cellLimit} s` : said };
  }
}

/** Runs the wanted cells that have no valid result yet. */
export async function runMatrix(plan: Plan, results: Results): Promise<void> {
  const end = performance.now() + plan.limit * 1000;
  const wanted = plan.columns.flatMap((column) => plan.rows.map((row) => ({ row, column })));
  const queue = wanted.values();
  const interrupted = (): boolean => plan.signal.aborted;
  const work = async (): Promise<void> => {
    for (const { row, column } of queue) {
      const sides = await sidesOf(row, column);
      const before = results.get(row, column);
      const keep = !plan.fresh && before?.broken === undefined && isDeepStrictEqual(before?.sides, sides);
      if (before !== undefined && keep) {
        plan.onCell(before, true);
      } else if (performance.now() < end && !interrupted()) {
        const cell = await runCell(row, column, sides, plan);
        if (interrupted()) return;
        results.put(cell);
        plan.onCell(cell, false);
      }
    }
  };
  await Promise.all(Array.from({ length: plan.jobs }, work));
}
