/** What systemd's descriptor store takes for how many descriptors, in a booted Debian 12. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../src/lab/process.ts';
import { checkout } from '../src/lab/trees.ts';
import { Machine, missingMachine } from '../test/package/machine.ts';
import { type Section, short } from './report.ts';
import type { Setting } from './setting.ts';

/** 10 000 take a minute to store; systemd 252 then dies of daemon-reexec, if it may have 20 000 descriptors. */
const SIZES = [100, 1000, 2000, 4000];
const UNIT = 'stored.service';
/** systemd answers nobody while it reloads. */
const PATIENCE_MS = 120_000;

interface Start {
  readonly start: number;
  readonly given: number;
  readonly all: number;
  readonly one: number;
}

const unit = (program: string, count: number, directory: string): string => `[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStart=${program} ${count} ${directory}
Restart=always
RestartSec=0
LimitNOFILE=524288
FileDescriptorStoreMax=20000
StandardOutput=append:${directory}/starts
`;

async function measure(machine: Machine, program: string, count: number): Promise<string[]> {
  const directory = join(machine.directory, String(count));
  mkdirSync(directory);
  const starts = (): Start[] =>
    readFileSync(join(directory, 'starts'), 'latin1')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Start);
  writeFileSync(machine.outside(`/etc/systemd/system/${UNIT}`), unit(program, count, directory));
  await machine.must('systemctl', 'daemon-reload');
  await machine.must('systemctl', 'start', UNIT);
  const first = await eventually('all are stored', () => starts()[0], PATIENCE_MS);
  const before = performance.now();
  await machine.must('systemctl', 'daemon-reload');
  const reload = performance.now() - before;
  const pid = machine.mainProcess(UNIT);
  if (pid === undefined) throw new Error(`${UNIT} is not there`);
  const killed = Number(process.hrtime.bigint()) / 1e6;
  process.kill(pid, 'SIGKILL');
  const second = await eventually('it has them again', () => starts()[1], PATIENCE_MS);
  if (second.given !== count + 1) throw new Error(`${second.given} of ${count + 1} descriptors were kept`);
  await machine.must('systemctl', 'stop', UNIT);
  return [String(count), short(first.all), short(first.one), short(reload), short(second.start - killed)];
}

export async function runStoredSection(setting: Setting): Promise<Section> {
  const section = {
    id: 'stored',
    title: "systemd's descriptor store",
    note: 'In ms: to store so many descriptors of files, to store one more, systemctl daemon-reload, and kill -9 to the next process.',
    head: ['descriptors', 'all', 'one more', 'daemon-reload', 'kill -9'],
    verdicts: [],
    charts: [],
  };
  const missing = missingMachine();
  if (missing !== undefined) return { ...section, note: `Not measured: ${missing}.`, rows: [], raw: {} };
  const machine = await Machine.boot();
  try {
    const program = join(machine.directory, 'stored');
    execFileSync(process.env.CC ?? 'cc', ['-O2', '-static', '-o', program, join(checkout, 'bench/native/stored.c')]);
    const rows: string[][] = [];
    for (const size of SIZES) {
      setting.progress(`${size} descriptors`);
      rows.push(await measure(machine, program, size));
    }
    return { ...section, rows, raw: rows };
  } finally {
    await machine.stop();
  }
}
