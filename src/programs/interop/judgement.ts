/** From cells to colours: numbered explanations of failures, and the verdict on the whole matrix. */
import type { DaemonKind } from '../../lab/generation.ts';
import { type Explanation, explain } from './explanations.ts';
import { type Cell, type Check, type Column, columns, rows } from './model.ts';

type Colour = 'green' | 'red' | 'amber' | 'unexplained' | 'none';

export interface Failure {
  readonly check: Check;
  /** D1, D2, … for defects, R1, … for differences between releases; undefined: unexplained. */
  readonly id?: string;
}

export interface JudgedCell {
  readonly row: DaemonKind;
  readonly column: Column;
  readonly cell: Cell | undefined;
  /** red: known defects; amber: only differences between releases; none: not run, or not to its end. */
  readonly colour: Colour;
  readonly passed: number;
  readonly skipped: number;
  readonly failures: readonly Failure[];
  /** Each once, in order. */
  readonly ids: readonly string[];
}

interface Reason extends Explanation {
  readonly id: string;
  /** The daemons with it, and the checks that show it. */
  readonly rows: readonly DaemonKind[];
  readonly checks: readonly string[];
}

export interface Judgement {
  readonly cells: readonly JudgedCell[];
  readonly reasons: readonly Reason[];
}

class Reasons {
  readonly #byText = new Map<string, Explanation & { id: string; rows: Set<DaemonKind>; checks: Set<string> }>();

  id(explanation: Explanation, row: DaemonKind, check: string): string {
    let reason = this.#byText.get(explanation.text);
    if (reason === undefined) {
      const { kind, text } = explanation;
      const number = [...this.#byText.values()].filter((other) => other.kind === kind).length + 1;
      reason = { kind, text, id: `${kind === 'defect' ? 'D' : 'R'}${number}`, rows: new Set(), checks: new Set() };
      this.#byText.set(text, reason);
    }
    reason.rows.add(row);
    reason.checks.add(check);
    return reason.id;
  }

  get all(): Reason[] {
    const list = [...this.#byText.values()].map((r) => ({ ...r, rows: [...r.rows], checks: [...r.checks] }));
    return list.sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));
  }
}

function colourOf(cell: Cell | undefined, failures: readonly Failure[], ids: readonly string[]): Colour {
  if (cell === undefined || cell.broken !== undefined) return 'none';
  if (failures.some(({ id }) => id === undefined)) return 'unexplained';
  if (ids.length === 0) return 'green';
  return ids.some((id) => id.startsWith('D')) ? 'red' : 'amber';
}

/** Judges every cell of those rows and columns, run or not. */
export function judge(
  cells: readonly Cell[],
  wantedRows: readonly DaemonKind[] = rows,
  wantedColumns: readonly Column[] = columns,
): Judgement {
  const reasons = new Reasons();
  const judged = wantedRows.flatMap((row) =>
    wantedColumns.map((column): JudgedCell => {
      const cell = cells.find((other) => other.row === row && other.column === column);
      const checks = cell?.checks ?? [];
      const failures = checks
        .filter(({ verdict }) => verdict === 'fail')
        .map((check): Failure => {
          const explanation = explain(check, { row, column });
          return explanation === undefined ? { check } : { check, id: reasons.id(explanation, row, check.name) };
        });
      const ids = [...new Set(failures.flatMap(({ id }) => id ?? []))].sort();
      const count = (verdict: Check['verdict']): number => checks.filter((check) => check.verdict === verdict).length;
      const colour = colourOf(cell, failures, ids);
      return { row, column, cell, colour, passed: count('pass'), skipped: count('skip'), failures, ids };
    }),
  );
  return { cells: judged, reasons: reasons.all };
}

/** 0: right; 1: a failure is unexplained; 3: some cell could not be run. */
export function exitStatus({ cells }: Judgement): 0 | 1 | 3 {
  if (cells.some(({ colour }) => colour === 'unexplained')) return 1;
  return cells.some(({ colour }) => colour === 'none') ? 3 : 0;
}
