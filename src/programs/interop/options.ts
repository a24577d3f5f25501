/** The command line of `npm run interop`. */
import { parseCommandLine, UsageError, wholeNumber } from '../../lab/command-line.ts';
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

Runs lock daemons with the conformance suite, with libvirtd and guests, and with virt-admin, each release with each. Needs
root, and for releases that are not installed the trees that scripts/lab.sh makes.

  --rows LIST       lock daemons, by default all: ${rows.join(', ')}
  --columns LIST    kinds of checks, by default all; a part of the name is enough:
                    ${columns.slice(0, 9).join(', ')},
                    conformance (all of these), libvirtd, libvirtd-9.0.0, virt-admin, virt-admin-9.0.0, ...
  --json FILE       the results, by default build/interop.json; a cell with a result there is run again only if one
                    of its two sides, or its checks, have changed
  --html FILE       write a page on which each cell opens its checks
  --markdown FILE   write the tables; by default docs/interop.md when all rows and columns are wanted
  --fresh           run every cell again
  --jobs N          cells at a time, by default 2
  --limit SECONDS   begin no cell after that time, by default 7200
  --cell-limit SECONDS
                    give up a cell after that time, by default 900
  -h, --help        print this

Exit status: 0 every failure is explained and none is this daemon's, 1 otherwise, 2 usage, 3 some cells could not be run.
`;

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
  const { values } = parseCommandLine({ args: [...args], options: settings });
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
    jobs: wholeNumber('jobs', values.jobs, 1),
    limit: wholeNumber('limit', values.limit, 1),
    cellLimit: wholeNumber('cell-limit', values['cell-limit'], 1),
    help: values.help,
  };
}
