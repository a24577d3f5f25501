/** `health`: is this host safe? One verdict, findings by kind, and the way out of each. */
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { Exit } from '../exit.ts';
import { assess } from '../health/assess.ts';
import type { Group, Health, Severity, Verdict } from '../health/findings.ts';
import { json, nameJson, print, style } from '../output.ts';

const COLOURS = { ok: 'green', info: 'cyan', warning: 'yellow', error: 'red' } as const;

/** So many of one kind are printed without --all. */
const SHOWN = 10;

export function addHealth(program: Command, context: Context): void {
  program
    .command('health')
    .description('say whether this host is safe: guests without locks, dead owners, exchanged files, and the ways out')
    .option('--json', 'print JSON')
    .option('-a, --all', 'print every finding, not the first of each kind')
    .option('-q, --quiet', 'print nothing if all is well')
    .addHelpText(
      'after',
      '\nCompares the running QEMUs and their disks with what is locked. With the C daemon: as far as that can be seen from outside.\nExit status 1: there are warnings or errors. Suits monitoring.',
    )
    .action(async (options: { json?: true; all?: true; quiet?: true }) => {
      const health = await assess(context.daemon());
      if (options.json === true) print(json(healthJson(health), 2));
      else if (options.quiet !== true || health.verdict !== 'ok') {
        print(verdictLine(health));
        for (const group of health.findings) print(describe(group, options.all === true).join('\n'));
      }
      process.exitCode = exitOf(health);
    });
}

function exitOf({ verdict, daemon }: Health): Exit {
  if (daemon === 'none') return Exit.DOWN;
  return verdict === 'ok' ? Exit.OK : Exit.NO;
}

export function verdictLine({ verdict, summary }: Pick<Health, 'verdict' | 'summary'>): string {
  return `${style(COLOURS[verdict], verdict.toUpperCase())}: ${summary}.`;
}

function describe({ severity, title, items, advice, commands }: Group, all: boolean): string[] {
  const shown = all ? items : items.slice(0, SHOWN);
  const isLeftOut = shown.length < items.length;
  return [
    '',
    `${label(severity)}: ${title}`,
    ...shown.map(({ text }) => `  ${text}`),
    ...(isLeftOut ? [`  and ${items.length - shown.length} more: --all`] : []),
    ...(advice === '' ? [] : [`  ${style('bold', 'Way out:')} ${advice}`]),
    ...(all ? commands : commands.slice(0, SHOWN)).map((command) => `    ${command}`),
  ];
}

function label(severity: Severity | Verdict): string {
  return style(COLOURS[severity], severity);
}

function healthJson({ findings, ...health }: Health): Record<string, unknown> {
  return { ...health, findings: findings.map(groupJson) };
}

function groupJson({ items, ...group }: Group): Record<string, unknown> {
  return {
    ...group,
    items: items.map(({ text, path, pid, vm }) => ({
      text,
      ...(path === undefined ? {} : nameJson('path', path)),
      ...(pid === undefined ? {} : { pid }),
      ...(vm === undefined ? {} : nameJson('vm', vm)),
    })),
  };
}
