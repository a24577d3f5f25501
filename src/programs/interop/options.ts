/** The command line of `npm run interop`. */
import { parseArgs } from 'node:util';
import type { DaemonKind } from '../../lab/generation.ts';
import { type Column, columns, partsOf, rows } from './model.ts';

export interface Options {
  readonly rows: readonly DaemonKind[];
  readonly columns: readonly Column[];
  readonly json: string;
  readonly html: string | undefined;
  readonly markdown: string | undefined;
  readonly fresh: boolean;
  readonly jobs: number;
  readonly limit: number;
  readonly cellLimit: number;
  readonly help: boolean;
}

export const usage = `Usage: npm run interop -- [OPTION]...

Runs lock daemons with the conformance suite, with libvirtd and guests, and with virt-admin, each release with each. Wants
root; the releases that are not installed are taken from the trees that scripts/lab.sh makes.

  --rows LIST       lock daemons, by default all: ${rows.join(', ')}
  --columns LIST    what is asked of them, by default all; a part of the name is enough:
                    ${columns.slice(0, 9).join(', ')},
                    conformance (all of these), libvirtd, libvirtd-9.0.0, virt-admin, virt-admin-9.0.0, ...
  --json FILE       the results, by default build/interop.json; cells found there are not run again unless one of their
                    two sides, the checks among them, has changed
  --html FILE       write a page where each cell opens on what is behind it
  --markdown FILE   write the tables; by default docs/interop.md when all rows and columns are wanted
  --fresh           run every cell again
  --jobs N          so many cells at a time, by default 2
  --limit SECONDS   begin no cell after that time, by default 7200
  --cell-limit SECONDS
                    give up a cell after that time, by default 900
  -h, --help        print this

Exit status: 0 every failure is explained and none is this daemon's, 1 not so, 2 usage, 3 some cells could not be run.
`;

export class UsageError extends Error {}

const settings = {
  rows: { type: 'string' },
  columns: { type: 'string' },
  json: { type: 'string', default: 'build/interop.json' },
  html: { type: 'string' },
  markdown: { type: 'string' },
  fresh: { type: 'boolean', default: false },
  jobs: { type: 'string', default: '2' },
  limit: { type: 'string', default: '7200' },
  'cell-limit': { type: 'string', default: '900' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

function number(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new UsageError(`--${option}: '${text}' is no positive number`);
  return value;
}

function chosen<T extends string>(
  option: string,
  list: string | undefined,
  all: readonly T[],
  fits: (one: T, word: string) => boolean,
): readonly T[] {
  if (list === undefined) return all;
  const words = list.split(',').map((word) => word.trim());
  const unknown = words.find((word) => !all.some((one) => fits(one, word)));
  if (unknown !== undefined) throw new UsageError(`--${option}: there is no '${unknown}'`);
  return all.filter((one) => words.some((word) => fits(one, word)));
}

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  let values;
  try {
    ({ values } = parseArgs({ args: [...args], options: settings }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const wantedRows = chosen('rows', values.rows, rows, (row, word) => row === word);
  const fits = (column: Column, word: string): boolean => column === word || partsOf(column).family === word;
  const wantedColumns = chosen('columns', values.columns, columns, fits);
  const whole = wantedRows.length === rows.length && wantedColumns.length === columns.length;
  return {
    rows: wantedRows,
    columns: wantedColumns,
    json: values.json,
    html: values.html,
    markdown: values.markdown ?? (whole ? 'docs/interop.md' : undefined),
    fresh: values.fresh,
    jobs: number('jobs', values.jobs),
    limit: number('limit', values.limit),
    cellLimit: number('cell-limit', values['cell-limit']),
    help: values.help,
  };
}
