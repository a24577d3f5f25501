/**
 * A plain `who PATH`, which an operator runs when a guest does not start. It is parsed here, because commander alone takes
 * longer to load than this command takes.
 */
import { BlockingClient } from './blocking-client.ts';
import { who } from './commands/who.ts';
import { toBytes } from './context.ts';
import { type Caller, InquireClient } from './inquire-client.ts';
import { resolveTarget } from './target.ts';

interface Question {
  readonly connect: string | undefined;
  readonly path: string;
  readonly json: boolean;
}

/** Parses `[-c DAEMON] who [--json] PATH`. Returns null for every other command line, also for a wrong one. */
export function readQuestion(args: readonly string[]): Question | null {
  let connect: string | undefined;
  let path: string | undefined;
  let [json, isWho] = [false, false];
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? '';
    if (word === '-c' || word === '--connect') connect = args[++at] ?? '';
    else if (word.startsWith('--connect=')) connect = word.slice('--connect='.length);
    else if (isWho && word === '--json') json = true;
    else if (word.startsWith('-') || word === '') return null;
    else if (!isWho && word === 'who') isWho = true;
    else if (isWho && path === undefined) path = word;
    else return null;
  }
  return path === undefined || connect === '' ? null : { connect, path, json };
}

/** Returns the exit status. @throws CommandError */
export async function answer({ connect, path, json }: Question): Promise<number> {
  const connectBlocking = (socket: string, timeout: number): Promise<Caller> =>
    // An exception of the executor rejects the promise.
    new Promise((resolve) => resolve(new BlockingClient(socket, timeout)));
  const daemon = new InquireClient<Caller>(resolveTarget(connect), connectBlocking);
  return who(daemon, toBytes(path), json);
}
