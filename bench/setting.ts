/** The command line of both benchmarks, and their progress messages. */
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { type Files, type Kind, kindTitles, kinds, missing } from './contender.ts';
import { type Placement, descriptorLimit } from './tools.ts';

export interface Setting {
  readonly rounds: number;
  /** Length of one round of one contender. */
  readonly seconds: number;
  /** Contenders that can run here. */
  readonly kinds: readonly Kind[];
  readonly placement: Placement;
  readonly files: Files;
  /** 100 000 locks, or fewer if a process may not have that many descriptors. */
  readonly manyLocks: number;
  readonly json: string | undefined;
  readonly html: string | undefined;
  readonly markdown: string | undefined;
  /** Whether a part of a section was asked for. */
  wants(section: string, part?: string): boolean;
  progress(text: string): void;
}

const usage = `options:
  --rounds N         rounds of each measurement (default 5)
  --seconds S        length of a round (default 1)
  --only WORDS       sections or loads to run, by commas: rates, ends, waits, memory, restart, deaths, stored, or a load such as acquire-1@900
  --daemons WORDS    contenders, by commas: ${kinds.join(', ')}
  --placement WHERE  processors of the daemon and the load generator: apart (default), together, free; SIGUSR1 is always free
  --files WHERE      lock files on disk (in TMPDIR; default) or in memory (/dev/shm)
  --json FILE        every figure
  --html FILE        the report as a page
  --markdown FILE    the report as tables for docs/performance.md
`;

/** Parses the command line. Ends the process on an invalid one and on --help. */
export function readSetting(): Setting {
  const options = {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
    only: { type: 'string' },
    daemons: { type: 'string', default: kinds.join(',') },
    placement: { type: 'string', default: 'apart' },
    files: { type: 'string', default: 'disk' },
    json: { type: 'string' },
    html: { type: 'string' },
    markdown: { type: 'string' },
    help: { type: 'boolean', default: false },
  } as const;
  const refuse = (text: string): never => {
    process.stderr.write(`${text}\n${usage}`);
    process.exit(1);
  };
  const read = (): ReturnType<typeof parseArgs<{ options: typeof options }>>['values'] => {
    try {
      return parseArgs({ options }).values;
    } catch (error) {
      return refuse((error as Error).message);
    }
  };
  const values = read();
  if (values.help) {
    process.stdout.write(usage);
    process.exit(0);
  }
  const positive = (text: string): number => {
    const value = Number(text);
    return value > 0 ? value : refuse(`not a positive number: ${text}`);
  };
  const placement = (['apart', 'together', 'free'] as const).find((word) => word === values.placement);
  const only = values.only?.split(',');
  const asked = values.daemons.split(',');
  const usable = kinds.filter((kind) => {
    if (!asked.includes(kind)) return false;
    const reason = missing(kind);
    if (reason !== undefined) process.stderr.write(`left out: ${kindTitles[kind]}: ${reason}\n`);
    return reason === undefined;
  });
  return {
    rounds: Math.ceil(positive(values.rounds)),
    seconds: positive(values.seconds),
    kinds: usable,
    placement: placement ?? refuse(`unknown placement: ${values.placement}`),
    files:
      (['disk', 'memory'] as const).find((word) => word === values.files) ?? refuse(`unknown place: ${values.files}`),
    // Leaves some descriptors for sockets and the runtime.
    manyLocks: Math.min(100_000, Math.floor((descriptorLimit() - 2000) / 1000) * 1000),
    json: values.json,
    html: values.html,
    markdown: values.markdown,
    wants: (section, part) =>
      only === undefined ||
      only.includes(section) ||
      only.some((word) => word === part || (part === undefined && isPart(word, section))),
    progress: (text) => {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, process.stderr.columns - 1)}`);
    },
  };
}

/** Words that name no section are loads of the first. */
const isPart = (word: string, section: string): boolean =>
  section === 'rates' && !['rates', 'ends', 'waits', 'memory', 'restart', 'deaths', 'stored'].includes(word);

/** The machine and the options, for the head of the report. */
export function describeMachine(): Record<string, string> {
  const [first] = cpus();
  return {
    processors: `${cpus().length} × ${first?.model ?? 'unknown'}`,
    kernel: release(),
    memory: /^MemTotal:\s+(.*)$/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1] ?? '',
    runtime: `Node.js ${process.versions.node}`,
    descriptors: String(descriptorLimit()),
  };
}
