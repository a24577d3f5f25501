/** Waiting until a process has taken up another program. */
import { setTimeout as pause } from 'node:timers/promises';
import { image } from './processes.ts';

const LOOK_MS = 10;

/** The daemon goes on with the program that it had. */
export class Refused extends Error {}
/** The daemon ended. */
export class Lost extends Error {}

/**
 * Waits for the next image of the process, which has been told to execute its path.
 * @param before its image until then
 * @param limit in ms
 * @param refusal why the daemon will not take it up, once it has said so
 * @throws Refused when it does not come, Lost when the process ends
 */
export async function exchanged(
  pid: number,
  before: string | undefined,
  limit: number,
  refusal: () => string | undefined = () => undefined,
): Promise<void> {
  const until = performance.now() + limit;
  for (;;) {
    const now = image(pid);
    if (now === undefined) throw new Lost(`process ${pid} has ended, and its locks with it`);
    if (now !== before) return;
    const reason = refusal();
    if (reason !== undefined) throw new Refused(`process ${pid} refuses the new program: ${reason}`);
    if (performance.now() > until)
      throw new Refused(`process ${pid} has not executed the new program within ${limit / 1000} s`);
    await pause(LOOK_MS);
  }
}
