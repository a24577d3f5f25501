/**
 * A plain `who PATH`, the question of somebody whose guest does not start: read off the command line and answered without
 * what the other commands need, of which the parser of command lines alone takes longer to load than all of this.
 */
import { BlockingClient } from './blocking-client.ts';
import { who } from './commands/who.ts';
import { toBytes } from './context.ts';
import { type Caller, InquireClient } from './inquire-client.ts';
import { resolveTarget } from './target.ts';

export interface Question {
  readonly connect: string | undefined;
  readonly path: string;
  readonly json: boolean;
}

/** What a command line of the plainest form asks; null for all others, wrong ones among them. */
export function readQuestion(args: readonly string[]): Question | null {
  let [connect, path, json, isWho]: [string | undefined, string | undefined, boolean, boolean] = [
    undefined,
    undefined,
    false,
    false,
  ];
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

/** Answers it; returns the exit status. @throws CommandError */
export async function answer({ connect, path, json }: Question): Promise<number> {
  const connectBlocking = (socket: string, timeout: number): Promise<Caller> =>
    // The executor's failure is the promise's, which is where the daemon looks for it.
    new Promise((resolve) => {
      resolve(new BlockingClient(socket, timeout));
    });
  const daemon = new InquireClient<Caller>(resolveTarget(connect), connectBlocking);
  return who(daemon, toBytes(path), json);
}
