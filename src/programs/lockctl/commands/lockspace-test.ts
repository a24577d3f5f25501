/** `lockspace test DIRECTORY`: whether a lock of one host is seen by another. Files of its own show it, and the daemon is not asked. */
import type { Command } from 'commander';
import type { ByteString } from '../../../../xdr/codec.ts';
import { isLocalType } from '../../../proc/mounts.ts';
import { type Context, toAbsolute, toBytes } from '../context.ts';
import { CommandError, Exit } from '../exit.ts';
import { type CheckResult, type Result, runChecks, worstOf } from '../lockspace-test/checks.ts';
import { betweenMountsOfOneClient, isOneClient } from '../lockspace-test/one-client.ts';
import { mountFindings } from '../lockspace-test/mount-options.ts';
import { Side, SideFailure, SideLost } from '../lockspace-test/peer.ts';
import type { Place } from '../lockspace-test/protocol.ts';
import { serveSide } from '../lockspace-test/side.ts';
import { notEmpty } from '../not-empty.ts';
import { complain, json, name, nameJson, print, style } from '../output.ts';
import { freedBy } from '../remote-locks.ts';
import { wholeNumber } from '../whole-number.ts';

interface Options {
  readonly peer?: string;
  readonly also?: string;
  readonly limit: number;
  readonly serve?: true;
  readonly json?: true;
}

/** Seconds. */
const LIMIT = { default: 10, max: 3600 } as const;

/** What the peer runs. */
const SERVE = ['lockspace', 'test', '--serve'] as const;

/** What the two sides are, and so what their locks show. */
type Between = 'hosts' | 'mounts' | 'processes';

export function addLockspaceTest(command: Command, context: Context): void {
  command
    .command('test')
    .description('test whether locks in a directory keep out other hosts')
    .argument('[directory]', 'on the storage, such as the directory of a lockspace', notEmpty('the directory'))
    .option('--peer <command>', "runs commands on another host: 'ssh node2'", notEmpty('--peer'))
    .option(
      '--also <directory>',
      "its path on the peer's host; without --peer, a second mount here",
      notEmpty('--also'),
    )
    .option('--limit <seconds>', 'for an answer of the storage', wholeNumber(1, LIMIT.max), LIMIT.default)
    .option('--serve', 'be the peer, over standard input and output')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Makes files of its own in the directory, named .virt-lockctl-test-*, and removes them. Asks no daemon.
The peer's host needs virt-lockctl in its PATH: '${SERVE.join(' ')}' is added to the command.
Exit status 1: a lock would not keep out another host, or there are other findings.`,
    )
    .action(async (directory: string | undefined, options: Options) => {
      const interrupt = context.untilInterrupted();
      if (options.serve === true) return serveSide();
      if (directory === undefined) throw new CommandError(Exit.USAGE, 'the directory is missing');
      process.exitCode = await test(toAbsolute(toBytes(directory)), options, interrupt);
      return undefined;
    });
}

/** Returns the exit status. */
async function test(
  directory: ByteString,
  { peer, also, limit, json: asJson }: Options,
  interrupt: AbortSignal,
): Promise<Exit> {
  const other = also === undefined ? directory : toAbsolute(toBytes(also));
  const labels = labelsOf(directory, other, peer);
  const sides: Side[] = [];
  interrupt.addEventListener('abort', () => {
    for (const side of sides) void side.end();
  });
  const start = async (label: string, command: readonly string[], at: ByteString): Promise<Side> => {
    const side = await Side.start(label, command, at, limit * 1000);
    sides.push(side);
    return side;
  };
  const startFirst = async (): Promise<Side> => start(labels.first, ownCommand(), directory);
  try {
    const first = await startFirst();
    const command = peer === undefined ? ownCommand() : ['/bin/sh', '-c', `${peer} virt-lockctl ${SERVE.join(' ')}`];
    const second = await start(labels.second, command, other);
    const report = new Report(directory, first, second, asJson === true);
    await runChecks(first, second, startFirst, (result) => {
      report.add(isOneClient(first.place, second.place) ? betweenMountsOfOneClient(result) : result);
    });
    return report.conclude();
  } catch (error) {
    throw interrupt.aborted ? new CommandError(Exit.NO, 'interrupted') : explain(error, limit);
  } finally {
    const ended = await Promise.all(sides.map(async (side) => ((await side.end()) ? null : side.label)));
    for (const label of ended)
      if (label !== null) complain(`${label} still waits for the storage, and removes its files when that answers`);
  }
}

function labelsOf(
  directory: ByteString,
  other: ByteString,
  peer: string | undefined,
): { first: string; second: string } {
  if (peer !== undefined) return { first: 'this host', second: 'the peer' };
  if (other !== directory) return { first: name(directory), second: name(other) };
  return { first: 'one process', second: 'another process' };
}

/** This very program. */
function ownCommand(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? '', ...SERVE];
}

function explain(error: unknown, limit: number): unknown {
  if (error instanceof SideFailure) return new CommandError(Exit.NO, error.message);
  if (!(error instanceof SideLost)) return error;
  const hint = error.isLate
    ? `\nIts storage hangs, or is slow: see --limit, now ${limit} s. For about 90 s after its start, an NFS server answers no request for a lock.`
    : '';
  return new CommandError(Exit.NO, `${error.message}${hint}`);
}

const SHOWN: Readonly<Record<Result, string>> = { ok: 'ok  ', warning: 'warn', bad: 'FAIL', unknown: '?   ' };
const COLOURS = { ok: 'green', warning: 'yellow', bad: 'red', unknown: 'yellow' } as const;

class Report {
  private readonly results: CheckResult[] = [];
  private readonly directory: ByteString;
  private readonly places: readonly { readonly label: string; readonly place: Place }[];
  private readonly between: Between;
  private readonly asJson: boolean;

  constructor(directory: ByteString, first: Side, second: Side, asJson: boolean) {
    this.directory = directory;
    this.places = [first, second];
    this.between = betweenOf(first.place, second.place);
    this.asJson = asJson;
    if (!asJson) for (const { label, place } of this.places) print(`${label}: ${describe(place)}`);
    const found = new Map(
      this.places.flatMap(({ place }) => mountFindings(place, this.between === 'hosts')).map((one) => [one.text, one]),
    );
    this.add({
      check: 'mount',
      title: 'no mount option is known to keep locks from other hosts',
      result: worstOf([...found.values()].map(({ result }) => result)),
      found: [...found.keys()],
    });
  }

  add(result: CheckResult): void {
    this.results.push(result);
    if (this.asJson) return;
    const { result: word, title, found } = result;
    for (const text of word === 'ok' ? [title] : found) print(`${style(COLOURS[word], SHOWN[word])} ${text}`);
  }

  /** Returns the exit status. */
  conclude(): Exit {
    const verdict = worstOf(this.results.map(({ result }) => result));
    const conclusion = [...CONCLUSIONS[verdict], ...(verdict === 'bad' ? [] : this.scope())];
    if (this.asJson) {
      print(
        json(
          {
            ...nameJson('directory', this.directory),
            verdict,
            between: this.between,
            sides: this.places.map(({ label, place }) => ({ label, ...placeJson(place) })),
            checks: this.results,
            conclusion,
          },
          2,
        ),
      );
    } else print(`${style(COLOURS[verdict], conclusion[0] ?? '')}\n${conclusion.slice(1).join('\n')}`.trimEnd());
    return verdict === 'ok' ? Exit.OK : Exit.NO;
  }

  /** What was shown, and what was not. */
  private scope(): string[] {
    const [here, there] = this.places;
    if (here === undefined || there === undefined) return [];
    const freed = freedBy(this.directory);
    const death = ['Not tested: the death of a host, or its network.', ...(freed === undefined ? [] : [freed])];
    switch (this.between) {
      case 'hosts':
        return [`Between ${name(here.place.host)} and ${name(there.place.host)}.`, ...death];
      case 'mounts':
        return [
          'Between two mounts of one host: their server has the locks. Another host may mount it with other options: test each with --peer.',
          ...death,
        ];
      case 'processes':
        return [
          'Between two processes of one host: the kernel may have answered by itself. This does not show that another host sees the locks.',
          isLocalType(here.place.type)
            ? `${here.place.type} is a file system of one host: no other host sees locks there.`
            : here.label === 'this host' || this.isOfTwoDirectories
              ? 'Both directories are one mount to the kernel. Mount the storage a second time as another client (NFS: -o nosharecache).'
              : "Test it with --peer 'ssh HOST', or with --also and a second mount of the storage.",
        ];
    }
  }

  private get isOfTwoDirectories(): boolean {
    return this.places[0]?.label === name(this.directory);
  }
}

const CONCLUSIONS: Readonly<Record<Result, readonly string[]>> = {
  ok: ['Locks keep each other out.'],
  warning: ['Locks keep each other out, with warnings.'],
  bad: ['Locks do not guard there: two hosts would write to one disk.'],
  unknown: ['Whether locks keep each other out is not known.'],
};

function betweenOf(first: Place, second: Place): Between {
  if (first.boot === '' || first.boot !== second.boot) return 'hosts';
  return first.device === second.device ? 'processes' : 'mounts';
}

function describe({ host, type, source, point, options }: Place): string {
  return `${name(type)} of ${name(source)}, mounted at ${name(point)} on ${name(host)} (${name(options)})`;
}

function placeJson({ host, type, source, point, options, device }: Place): Record<string, unknown> {
  return {
    ...nameJson('host', host),
    type,
    ...nameJson('source', source),
    ...nameJson('mountPoint', point),
    options: options.split(','),
    device,
  };
}
