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
  1  the file is not a strace or pcap file, or is cut off
  2  invalid command line
  3  cannot listen at a socket, or cannot read or write a file

As a proxy, it changes what the daemon sees of a client: pid and SELinux context are those of virtlockd-trace, and unless it runs
as root, also the user. So the daemon does not release an owner's locks when the owner ends. Only strace changes nothing:
strace -f -ttt -e trace=network,read,write,close -s 65536 -xx -o FILE -p PID`;

export function buildProgram(): Command {
  return new Command('virtlockd-trace')
    .description('Show every message between a lock daemon and its clients, decoded.')
    .version(installedVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .option(
      '--interpose <socket>',
      'take the place of this socket of a running daemon until the end (may be repeated)',
      collect,
    )
    .option('--listen <path>', 'create a socket for clients here')
    .option('--connect <path>', "with --listen: the daemon's socket")
    .addOption(
      new Option('--strace <file>', 'decode output of strace; - is standard input').conflicts([
        'listen',
        'interpose',
        'pcap',
      ]),
    )
    .addOption(
      new Option(
        '--pcap <file>',
        'decode a pcap or pcapng file, with TCP or from --write-pcap; - is standard input',
      ).conflicts(['listen', 'interpose']),
    )
    .option('--write-pcap <file>', 'also write the traffic to a pcap file')
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', HELP)
    .allowExcessArguments(false)
    .exitOverride();
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** Why the options do not fit together, if so. */
export function contradiction({ listen, connect, interpose, strace, pcap }: Options): string | undefined {
  if ((listen === undefined) !== (connect === undefined))
    return '--listen needs --connect, and --connect needs --listen';
  const sources = [listen, interpose, strace, pcap].filter((source) => source !== undefined);
  return sources.length === 0 ? 'give one of --interpose, --listen with --connect, --strace or --pcap' : undefined;
}
