/** The state of the log: level, filters, outputs. Each change is made as a whole or not at all. */

import type { ByteString } from '../../xdr/codec.ts';
import { DEFAULT_VERSION, DEFAULT_VERSION_NUMBER } from '../libvirt/dialect.ts';
import { integer, object, type StateOf, text } from '../state/state.ts';
import { callerOf } from './caller.ts';
import { formatFilters, levelFor, parseFilters } from './filters.ts';
import type { LogFilter } from './filters.ts';
import { Level, LogSettingError, parseLevel } from './levels.ts';
import { formatOutputs, parseOutputs, sameOutput } from './output-spec.ts';
import type { OutputNoun } from './output-spec.ts';
import { openOutput } from './outputs.ts';
import type { LogOutput, OutputFiles, OutputHost } from './outputs.ts';
import { visibleText } from './record.ts';
import type { Caller, LogRecord } from './record.ts';

/** The text of daemon-log-filters or daemon-log-outputs, and how many there are. */
interface SettingText {
  readonly text: string;
  readonly count: number;
}

/** The log's settings as text, for a restart. */
export const logState = object({ level: integer(1, 4), filters: text, outputs: text });
export type LogState = StateOf<typeof logState>;

/** From this libvirt version on the opening lines name the user. */
const VERSION_WITH_UID = 12_008_000;

/** Holds a threshold that {@link Logging} keeps up to date. */
export interface ThresholdHolder {
  readonly source: string;
  /** Messages below this level go nowhere. */
  threshold: number;
}

interface LoggingOptions {
  readonly host: OutputHost;
  readonly hostname: string;
  readonly uid: number;
  now(): Date;
}

/** See allowance.ts. */
interface LimitedCaller {
  mayLog(bytes: number): boolean;
}

export class Logging {
  /** For the opening lines. */
  version = { text: DEFAULT_VERSION, number: DEFAULT_VERSION_NUMBER };
  /** The noun for an output in errors: see libvirt/dialect.ts. */
  outputNoun: OutputNoun = 'log output';
  /** Of relative paths of outputs; null when it is not known. -d changes the working directory. */
  directory: ByteString | null = null;
  /** The meaning of an empty setting. */
  defaultOutput = '3:stderr';
  /** The settings were made at run time: a restart carries them over, where it reads those of the configuration again. */
  isChanged = false;

  /** Whose call is being served, if one is: its warnings and errors are limited. */
  caller: LimitedCaller | null = null;

  private readonly options: LoggingOptions;
  private readonly holders: ThresholdHolder[] = [];
  private level: Level = Level.WARNING;
  private currentFilters: readonly LogFilter[] = [];
  private currentOutputs: readonly LogOutput[];

  /** Logs to standard error until outputs are set. */
  constructor(options: LoggingOptions) {
    this.options = options;
    this.currentOutputs = [openOutput({ level: Level.DEBUG, destination: 'stderr', name: '' }, options.host)];
  }

  /** From now on these functions open and close the files of outputs. */
  useFiles(files: OutputFiles): void {
    this.options.host.files = files;
  }

  /** Others wait for this process from now on. */
  beginServing(): void {
    this.options.host.isServing = true;
  }

  /** Moves the sockets of journald and syslog, for outputs opened from now on. */
  useSockets({ journal, syslog }: { journal: string; syslog: string }): void {
    this.options.host.journalSocket = journal;
    this.options.host.syslogSocket = syslog;
  }

  /** Sets the threshold of `holder`, now and at every change. */
  register(holder: ThresholdHolder): void {
    this.holders.push(holder);
    holder.threshold = this.thresholdOf(holder.source);
  }

  get defaultLevel(): Level {
    return this.level;
  }

  /** For log_level and LIBVIRT_DEBUG. @throws LogSettingError */
  setLevel(level: number | string): void {
    this.level = parseLevel(String(level));
    this.refresh();
  }

  get filters(): SettingText {
    return { text: formatFilters(this.currentFilters), count: this.currentFilters.length };
  }

  /** @throws LogSettingError */
  setFilters(text: string): void {
    this.currentFilters = parseFilters(text, this.outputNoun === 'output');
    this.refresh();
  }

  get outputs(): SettingText {
    return { text: formatOutputs(this.currentOutputs), count: this.currentOutputs.length };
  }

  /**
   * Opens these outputs, and closes all others. An empty text means the default output; blanks, as in C, none.
   *
   * @throws LogSettingError
   */
  setOutputs(text: string): void {
    this.replaceOutputs(this.openOutputs(text));
  }

  /** All settings, for {@link apply}. Not the filters' text as the admin program returns it: that would gain stars each time. */
  get state(): LogState {
    const filters = this.currentFilters.map(({ level, pattern }) => `${level}:+${pattern.slice(1, -1)}`).join(' ');
    const { text, count } = this.outputs;
    return { level: this.level, filters, outputs: count === 0 ? ' ' : text };
  }

  /** @throws LogSettingError */
  apply(state: LogState): void {
    const level = parseLevel(String(state.level));
    const filters = parseFilters(state.filters);
    const outputs = this.openOutputs(state.outputs);
    this.level = level;
    this.currentFilters = filters;
    this.replaceOutputs(outputs);
  }

  /** Writes one message to every output that takes its level. */
  write(level: Level, source: string, text: string, caller: Caller | undefined, code?: LogRecord['code']): void {
    // Everything below is logged at an operator's wish.
    if (level >= Level.WARNING && this.caller?.mayLog(text.length) === false) return;
    const record: LogRecord = { time: this.options.now(), level, source, text: visibleText(text), caller, code };
    for (const output of this.currentOutputs) {
      if (level < output.level) continue;
      if (!output.opened) this.open(output, record.time);
      output.write(record);
    }
  }

  private open(output: LogOutput, time: Date): void {
    const { hostname, uid } = this.options;
    const user = this.version.number >= VERSION_WITH_UID ? `, uid: ${uid}` : '';
    const opening = { time, level: Level.INFO, source: 'util.log', caller: callerOf(0), isOpening: true } as const;
    for (const line of [`libvirt version: ${this.version.text}`, `hostname: ${hostname}${user}`]) {
      output.write({ ...opening, text: visibleText(line) });
    }
    output.opened = true;
  }

  private thresholdOf(source: string): number {
    const lowest = Math.min(...this.currentOutputs.map((output) => output.level), Infinity);
    return Math.max(levelFor(source, this.currentFilters, this.level), lowest);
  }

  private refresh(): void {
    for (const holder of this.holders) holder.threshold = this.thresholdOf(holder.source);
  }

  private openOutputs(text: string): LogOutput[] {
    const parsed = parseOutputs(text === '' ? this.defaultOutput : text, this.outputNoun, this.directory);
    let outputs: LogOutput[] = [];
    try {
      for (const spec of parsed.outputs) {
        const output = openOutput(spec, this.options.host);
        for (const other of outputs) if (sameOutput(other, spec)) other.close();
        outputs = [...outputs.filter((other) => !sameOutput(other, spec)), output];
      }
      if (parsed.error !== undefined) throw new LogSettingError(parsed.error);
    } catch (error) {
      for (const output of outputs) output.close();
      throw error;
    }
    return outputs;
  }

  private replaceOutputs(outputs: readonly LogOutput[]): void {
    const before = this.currentOutputs;
    this.currentOutputs = outputs;
    for (const output of before) output.close();
    this.refresh();
  }
}
