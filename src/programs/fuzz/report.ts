/** The progress of a run, and its summary. */
import { writeFileSync } from 'node:fs';

interface Finding {
  /** The problem, in one line. */
  readonly what: string;
  /** A file to replay it. */
  readonly file: string;
  /** How often it happened. */
  times: number;
}

export interface Summary {
  readonly target: string;
  readonly seed: number;
  /** Inputs, or calls. */
  runs: number;
  sequences: number;
  seconds: number;
  /** Processor seconds of this process. */
  cpuSeconds: number;
  /** Runs a second, by the clock and by the processor. */
  rate: number;
  ratePerCpuSecond: number;
  coveredBranches: number;
  corpus: number;
  findings: Finding[];
}

const SCREEN_EVERY_MS = 1000;
const LINE_EVERY_MS = 10_000;

export class Report {
  readonly summary: Summary;
  private readonly start = performance.now();
  private readonly cpu = process.cpuUsage();
  private readonly quiet: boolean;
  /** Findings by the kind of their complaint. */
  private readonly kinds = new Map<string, Finding>();
  private shown = performance.now();

  constructor(target: string, seed: number, quiet: boolean) {
    this.quiet = quiet;
    this.summary = {
      target,
      seed,
      runs: 0,
      sequences: 0,
      seconds: 0,
      cpuSeconds: 0,
      rate: 0,
      ratePerCpuSecond: 0,
      coveredBranches: 0,
      corpus: 0,
      findings: [],
    };
  }

  get seconds(): number {
    return (performance.now() - this.start) / 1000;
  }

  /** Counts a finding of a known kind; false for a new kind. */
  isKnown(kind: string): boolean {
    const finding = this.kinds.get(kind);
    if (finding !== undefined) finding.times++;
    return finding !== undefined;
  }

  found(kind: string, what: string, file: string): void {
    const finding = { what, file, times: 1 };
    this.kinds.set(kind, finding);
    this.summary.findings.push(finding);
    if (!this.quiet) process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}found: ${what}\n       ${file}\n`);
  }

  /** Shows the progress, at most once in a while. */
  show(): void {
    const now = performance.now();
    const screen = process.stderr.isTTY;
    if (this.quiet || now - this.shown < (screen ? SCREEN_EVERY_MS : LINE_EVERY_MS)) return;
    this.shown = now;
    this.update();
    const { target, runs, rate, coveredBranches, corpus, findings, seconds } = this.summary;
    const line = `${target}: ${Math.round(seconds)} s, ${runs} runs, ${rate}/s, ${coveredBranches} branches, corpus ${corpus}, ${findings.length} findings`;
    process.stderr.write(screen ? `\r\x1b[K${line}` : `${line}\n`);
  }

  private update(): void {
    const { summary } = this;
    const { user, system } = process.cpuUsage(this.cpu);
    summary.seconds = Math.round(this.seconds * 10) / 10;
    summary.cpuSeconds = Math.round((user + system) / 1e5) / 10;
    summary.rate = Math.round(summary.runs / Math.max(this.seconds, 0.001));
    summary.ratePerCpuSecond = Math.round(summary.runs / Math.max((user + system) / 1e6, 0.001));
  }

  /** Prints the summary as JSON, and writes it to a file when one is named. */
  finish(file: string | undefined): void {
    this.update();
    const text = `${JSON.stringify(this.summary, null, 2)}\n`;
    if (process.stderr.isTTY && !this.quiet) process.stderr.write('\r\x1b[K');
    if (file === undefined) process.stdout.write(text);
    else writeFileSync(file, text);
  }
}
