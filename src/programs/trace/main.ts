/** virtlockd-trace: shows the messages between lock daemons and their clients. */
import { createReadStream, readFileSync, unlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CommanderError } from 'commander';
import { exitProcess } from '../../posix/exit.ts';
import type { Sink } from './events.ts';
import { Exit } from './exit.ts';
import { FileError } from './file-error.ts';
import { Interposed } from './interpose.ts';
import { Output } from './output.ts';
import { PcapWriter } from './pcap.ts';
import { jsonLine, textLine } from './print.ts';
import { buildProgram, contradiction, type Options } from './program.ts';
import { noteOwners, Proxy, type Wiring } from './proxy.ts';
import { readPcap } from './read-pcap.ts';
import { StraceReader } from './read-strace.ts';
import { Decoder, type Tap, tee } from './tap.ts';

function say(text: string): void {
  process.stderr.write(`virtlockd-trace: ${text}\n`);
}

async function fromStrace(file: string, tap: Tap, output: Output): Promise<void> {
  const reader = new StraceReader(tap);
  const input = createReadStream(file, { encoding: 'latin1', ...(file === '-' ? { fd: 0 } : {}) });
  let lines = 0;
  for await (const line of createInterface({ input, crlfDelay: Infinity })) {
    lines++;
    reader.line(line);
    await output.room();
  }
  if (lines > 0 && reader.calls === 0) throw new FileError('no line is output of strace');
}

/** Serves new connections until a signal, and the present ones until they end or a second signal comes. */
async function proxy(options: Options, wiring: Wiring, interrupts: Interrupts): Promise<void> {
  const interposed: Interposed[] = [];
  const proxies: Proxy[] = [];
  const putBack = (): void => {
    for (const one of interposed) one.putBack();
    for (const one of proxies) one.stopListening();
    if (options.listen !== undefined && proxies.length > interposed.length) {
      try {
        unlinkSync(options.listen);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
  };
  process.once('exit', putBack);
  try {
    for (const socket of options.interpose ?? []) {
      const one = new Interposed(socket, wiring);
      interposed.push(one);
      proxies.push(one.proxy);
    }
    if (options.listen !== undefined) proxies.push(new Proxy(options.listen, options.connect ?? '', wiring));
    const user = process.geteuid?.() === 0 ? 'pid' : 'pid and user';
    say(
      `the daemon sees the ${user} of this proxy (pid ${process.pid}), not of its clients: it will not release an owner's locks when the owner ends`,
    );
    await interrupts.next();
  } finally {
    process.removeListener('exit', putBack);
    putBack();
  }
  const left = proxies.reduce((sum, { connections }) => sum + connections, 0);
  if (left > 0) {
    const passing = left === 1 ? '1 connection still passes' : `${left} connections still pass`;
    say(`newcomers reach the daemon itself; ${passing} through the proxy. Interrupt again to close the rest.`);
    await Promise.race([Promise.all(proxies.map(async (one) => one.drained())), interrupts.next()]);
  }
  for (const one of proxies) one.close();
}

/** SIGINT, SIGTERM and SIGHUP, and the end of the output's reader. */
class Interrupts {
  private waiting: () => void = () => undefined;
  private count = 0;

  constructor() {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => this.interrupt());
    }
  }

  interrupt(): void {
    this.count++;
    this.waiting();
  }

  /** Resolves at the next interrupt, or at once if there was one that no call has returned. */
  async next(): Promise<void> {
    if (this.count === 0) await new Promise<void>((resolve) => (this.waiting = resolve));
    this.count--;
  }
}

async function run(args: readonly string[]): Promise<Exit> {
  const program = buildProgram();
  try {
    program.parse(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    throw error;
  }
  const options = program.opts<Options>();
  const wrong = contradiction(options);
  if (wrong !== undefined) {
    say(`${wrong}; see --help`);
    return Exit.USAGE;
  }
  const isProxy = options.listen !== undefined || options.interpose !== undefined;
  const interrupts = isProxy ? new Interrupts() : undefined;
  const output = new Output(() => {
    if (interrupts === undefined) exitProcess(Exit.OK);
    interrupts.interrupt();
  });
  const print: Sink = (event) => output.line(options.json === true ? jsonLine(event) : textLine(event));
  let pcap: PcapWriter | undefined;
  try {
    const decoder = new Decoder(isProxy ? noteOwners(print) : print);
    if (options.writePcap !== undefined) pcap = new PcapWriter(options.writePcap);
    const tap = pcap === undefined ? decoder : tee([pcap, decoder]);
    let connections = 0;
    if (interrupts !== undefined) {
      await proxy(options, { decoder, tap, nextConnection: () => ++connections }, interrupts);
    } else if (options.strace !== undefined) await fromStrace(options.strace, tap, output);
    else readPcap(readFileSync(options.pcap === '-' ? 0 : (options.pcap ?? '')), tap);
    return Exit.OK;
  } catch (error) {
    const name = options.strace ?? options.pcap;
    say(`${error instanceof FileError && name !== undefined ? `${name}: ` : ''}${(error as Error).message}`);
    return error instanceof FileError ? Exit.FILE : Exit.FAILED;
  } finally {
    await output.end();
    pcap?.finish();
  }
}

// For the help text, whose reader may close the pipe. The trace itself has an Output.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

void run(process.argv.slice(2)).then((status) => {
  exitProcess(status);
});
