/** The command line of virtlockd-trace. */
import { Command, Option } from 'commander';
import { installedVersion } from '../../posix/root.ts';

export interface Options {
  readonly listen?: string;
  readonly connect?: string;
  readonly interpose?: readonly string[];
  readonly strace?: string;
  readonly pcap?: string;
  readonly writePcap?: string;
  readonly json?: true;
}

const HELP = `
Exit status:
  0  done
  1  the file is no strace or pcap file, or is cut off
  2  wrong command line
  3  a socket cannot be listened at, or a file not read or written

Standing between, it changes what the daemon sees: the peer's pid and SELinux context are those of virtlockd-trace, so that the
daemon does not release an owner's locks when the owner ends; and, unless it runs as root, the user. Only strace changes
nothing: strace -f -ttt -e trace=network,read,write,close -s 65536 -xx -o FILE -p PID`;

export function buildProgram(): Command {
  return new Command('virtlockd-trace')
    .description('Shows what a lock daemon and its clients say to each other, every message decoded.')
    .version(installedVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .option(
      '--interpose <socket>',
      "stand in this socket's place, and give it back at the end (may be repeated)",
      collect,
    )
    .option('--listen <path>', 'make a socket here, for clients')
    .option('--connect <path>', "with --listen: the daemon's socket")
    .addOption(
      new Option('--strace <file>', 'decode the output of strace; - is standard input').conflicts([
        'listen',
        'interpose',
        'pcap',
      ]),
    )
    .addOption(
      new Option('--pcap <file>', 'decode a pcap or pcapng file: TCP, or what --write-pcap made').conflicts([
        'listen',
        'interpose',
      ]),
    )
    .option('--write-pcap <file>', 'write what passes into a pcap file as well')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', HELP)
    .allowExcessArguments(false)
    .exitOverride();
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** What is wrong with the options together, or undefined. */
export function contradiction({ listen, connect, interpose, strace, pcap }: Options): string | undefined {
  if ((listen === undefined) !== (connect === undefined)) return '--listen and --connect belong together';
  const sources = [listen, interpose, strace, pcap].filter((source) => source !== undefined);
  return sources.length === 0 ? 'one of --interpose, --listen with --connect, --strace or --pcap is needed' : undefined;
}
