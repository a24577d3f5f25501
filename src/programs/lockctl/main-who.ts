/**
 * The first bundle of virt-lockctl: a plain `who PATH`, and no other command. start.cjs loads the second bundle only when
 * `isForMe` is false.
 */
import { exitProcess } from '../../posix/exit.ts';
import { posix } from '../../posix/posix.ts';
import { ownArguments } from './arguments.ts';
import { finish } from './finish.ts';
import { answer, readQuestion } from './quick-who.ts';

const question = readQuestion(ownArguments());

export const isForMe = question !== null;

if (question !== null) {
  posix.setProcessName('virt-lockctl');
  void finish(answer(question)).then((status) => {
    // All output is written. An orderly end of the runtime would take milliseconds.
    exitProcess(status);
  });
}
