/** The second bundle of virt-lockctl: every command. */
import { posix } from '../../posix/posix.ts';
import { ownArguments } from './arguments.ts';
import { runCommand } from './command-line.ts';
import { finish } from './finish.ts';

posix.setProcessName('virt-lockctl');
void finish(runCommand(ownArguments()));
