/** Prints the table of docs/operations/hung-storage.md. */
import type { DaemonKind } from '../src/lab/generation.ts';
import { measureWaits, questions, type Wait, type Waits } from './hung-calls.ts';
import { missingDaemon, missingGluster } from '../src/lab/requirements.ts';

const LIMIT = 5000;
const columns: readonly { title: string; kind: DaemonKind; hangs: boolean }[] = [
  { title: 'C 9.0.0, healthy', kind: '9.0.0', hangs: false },
  { title: 'C 9.0.0, hung', kind: '9.0.0', hangs: true },
  { title: 'this daemon, healthy', kind: 'ours', hangs: false },
  { title: 'this daemon, hung', kind: 'ours', hangs: true },
];

function cell(wait: Wait | undefined): string {
  if (wait === undefined) return '';
  if (wait.ms === undefined) return 'never';
  const ms = wait.ms < 10 ? wait.ms.toFixed(1) : wait.ms.toFixed(0);
  return `${ms} ms${wait.code === undefined || wait.code === 0 ? '' : `, exit ${wait.code ?? 'by a signal'}`}`;
}

const missing = missingDaemon('9.0.0') ?? missingDaemon('ours') ?? missingGluster();
if (missing !== undefined) throw new Error(missing);
const measured: Waits[] = [];
for (const { kind, hangs } of columns) measured.push(await measureWaits(kind, hangs, LIMIT));
const rows = questions.map((question) => [question, ...measured.map((waits) => cell(waits[question]))]);
const head = ['', ...columns.map(({ title }) => title)];
for (const row of [head, head.map(() => '---'), ...rows]) process.stdout.write(`| ${row.join(' | ')} |\n`);
