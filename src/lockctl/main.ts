/** virt-lockctl: who holds this disk, and how the lock daemon is. */
import { posix } from '../posix/posix.ts';
import { runCommand } from './command-line.ts';
import { finish } from './finish.ts';

posix.setProcessName('virt-lockctl');
void finish(runCommand(process.argv.slice(2)));
