/** docs/interop.md: the matrix as tables. */
import { format } from 'prettier';
import type { DaemonKind } from '../../lab/generation.ts';
import type { Judgement, JudgedCell } from './judgement.ts';
import { type Column, columnTitle, families, rowTitle, rows } from './model.ts';
import { askerOf, daemonOf } from './provenance.ts';

const escape = (text: string): string => text.replace(/[|\\<>*_`[\]]/g, '\\$&').replace(/\s*\n\s*/g, ' ');

const table = (head: readonly string[], body: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...body].map((line) => `| ${line.join(' | ')} |`).join('\n');

function cellText({ cell, colour, passed, failures, ids }: JudgedCell): string {
  if (cell === undefined) return 'not run';
  if (cell.broken !== undefined) return 'could not be run';
  const all = passed + failures.length;
  if (colour === 'green') return `${all} of ${all}`;
  const why = [...ids, ...(colour === 'unexplained' ? ['unexplained'] : [])].join(', ');
  return `**${passed} of ${all}**: ${why}`;
}

function family(judgement: Judgement, title: string, columns: readonly Column[]): string {
  const body = rows.map((row) => [
    rowTitle(row),
    ...columns.map((column) => {
      const cell = judgement.cells.find((other) => other.row === row && other.column === column);
      return cell === undefined ? 'not run' : cellText(cell);
    }),
  ]);
  return table([title, ...columns.map(columnTitle)], body);
}

const titles: Readonly<Record<keyof typeof families, string>> = {
  conformance: 'conformance',
  libvirtd: 'guests of',
  'virt-admin': 'answers to',
};

/** The checks that show a reason, at most the first three. */
function shownBy(checks: readonly string[]): string {
  const shown = checks.slice(0, 3).map((name) => `\`${name.replaceAll('|', '\\|')}\``);
  const more = checks.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

const rowList = (list: readonly DaemonKind[]): string => list.map((row) => rowTitle(row).replace('C ', '')).join(', ');

export async function markdown(judgement: Judgement): Promise<string> {
  const skipped = judgement.cells.reduce((sum, cell) => sum + cell.skipped, 0);
  const tables = Object.entries(families).map(([name, columns]) =>
    family(judgement, titles[name as keyof typeof families], columns),
  );
  const reasons = (kind: string): string =>
    table(
      ['', 'what', 'daemons', 'shown by'],
      judgement.reasons
        .filter((reason) => reason.kind === kind)
        .map(({ id, text, rows: where, checks }) => [id, escape(text), rowList(where), shownBy(checks)]),
    );
  const daemons = await Promise.all(rows.map(async (row) => [rowTitle(row), await daemonOf(row)]));
  const askers = await Promise.all(
    [...families.libvirtd, ...families['virt-admin']].map(async (column) => [
      columnTitle(column),
      await askerOf(column),
    ]),
  );
  const text = `# Which works with which

\`npm run interop\` runs every cell and writes this page; do not edit it. \`npm run interop -- --help\` lists the options. With
\`--html FILE\` it writes a page on which every cell opens its checks, expected and seen side by side.

A row is a lock daemon. A cell counts the checks that passed, of those that were run. For those that failed it names the
cause: a defect (D) of that daemon, or a difference (R) between its release and the one it is compared with. ${skipped} checks
in all were not run, because they do not apply there.

## The conformance suite

Each group of \`bin/virtlockd-conformance\` judges a C daemon by the right behaviour of its own release. It judges this daemon
four times, in the dialect of each release (\`libvirt_version\` of \`virtlockd.conf\`), but its start only by the later three:
7.0.0 starts with a log setting that it cannot parse, later releases and this daemon do not.

${tables[0] ?? ''}

## libvirtd with the lockd plugin

libvirtd, virsh and QEMU of one release, the lock daemon of another at the other end of the socket, each in a root of its
own: plain, shared, read-only, plugged, saved and restored disks, leases, an indirect lockspace, QEMU killed, libvirtd
restarted, the lock daemon replaced by SIGUSR1 and killed.

${tables[1] ?? ''}

## virt-admin

One session of commands: output and exit status, compared with those of virt-admin with the C daemon of its own release.

${tables[2] ?? ''}

## Defects of the C daemons

${reasons('defect')}

## Differences between releases

${reasons('release')}

## What was run

${table(['daemon', 'package'], daemons)}

${table(['asked by', 'packages'], askers)}
`;
  return format(text, { parser: 'markdown', printWidth: 120, singleQuote: true });
}
