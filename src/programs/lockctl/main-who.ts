/**
 * virt-lockctl's first bundle: a plain `who PATH`, and nothing else. start.cjs loads the bundle of everything only when
 * this one leaves the command line to it.
 */
import { exitProcess } from '../../posix/exit.ts';
import { posix } from '../../posix/posix.ts';
import { ownArguments } from './arguments.ts';
import { finish } from './finish.ts';
import { answer, readQuestion } from './quick-who.ts';

const question = readQuestion(ownArguments());

/** Whether the command line is this one's. */
export const isForMe = question !== null;

if (question !== null) {
  posix.setProcessName('virt-lockctl');
  void finish(answer(question)).then((status) => {
    // All is written and nothing is open: taking the runtime down piece by piece would take milliseconds for nothing.
    exitProcess(status);
  });
}
