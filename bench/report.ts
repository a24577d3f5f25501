/** A benchmark's report as plain data: sections with a table, charts and verdicts. */

/** A median with the lowest and highest of its rounds. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** A target, and whether it was reached. */
export interface Verdict {
  readonly what: string;
  readonly wanted: string;
  readonly reached: string;
  readonly passed: boolean;
}

export interface Series {
  readonly name: string;
  /** One for each of the chart's places; undefined if not measured. */
  readonly values: readonly (number | undefined)[];
}

export interface Chart {
  readonly title: string;
  readonly form: 'lines' | 'bars';
  readonly places: readonly string[];
  readonly unit: string;
  /** Draw the values on a logarithmic scale. */
  readonly logarithmic?: boolean;
  readonly series: readonly Series[];
}

export interface Section {
  readonly id: string;
  readonly title: string;
  /** How to read it, in a sentence or two. */
  readonly note: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly verdicts: readonly Verdict[];
  readonly charts: readonly Chart[];
  /** Every single measurement, for JSON. */
  readonly raw: unknown;
}

export interface Report {
  readonly title: string;
  /** ISO 8601 */
  readonly taken: string;
  readonly machine: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly sections: readonly Section[];
}

/** @throws RangeError when there are no values. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high, upper] = [sorted.at(0), sorted.at(-1), sorted[middle]];
  const lower = sorted.length % 2 === 0 ? sorted[middle - 1] : upper;
  if (low === undefined || high === undefined || upper === undefined || lower === undefined) {
    throw new RangeError('no values');
  }
  return { median: (lower + upper) / 2, low, high };
}

/** Three significant digits, thousands separated. */
export function short(value: number): string {
  if (value !== 0 && Math.abs(value) < 100) return String(Number(value.toPrecision(3)));
  return String(Math.round(value)).replace(/(?<=\d)(?=(\d{3})+$)/g, ' ');
}

/** `median (low to high)` */
export function shortSpread({ median, low, high }: Spread): string {
  return low === high ? short(median) : `${short(median)} (${short(low)} to ${short(high)})`;
}

/** A verdict on a ratio or a figure with a lower or upper limit. */
export function verdict(what: string, got: Spread | number, limit: { least: number } | { most: number }): Verdict {
  const value = typeof got === 'number' ? got : got.median;
  const least = 'least' in limit;
  return {
    what,
    wanted: least ? `at least ${short(limit.least)}` : `at most ${short(limit.most)}`,
    reached: typeof got === 'number' ? short(got) : shortSpread(got),
    passed: least ? value >= limit.least : value <= limit.most,
  };
}
