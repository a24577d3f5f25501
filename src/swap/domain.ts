/**
 * SELinux. A C daemon that executes our program stays in its domain, and the runtime aborts there if the policy forbids it to compile code
 * (execmem), as that of Fedora does: with it every lock would go. So the program is run in that domain first.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Milliseconds. */
const PROVE_MS = 10_000;

/** Where SELinux shows itself; a test has others. */
const SYSTEM = { enforce: '/sys/fs/selinux/enforce', runcon: 'runcon' };

/**
 * Why the domain of a process may not run a program, and what to do; undefined if it may, or if nothing is enforced. What cannot be
 * found out is a reason.
 * @param program prints its version for `--version`
 */
export function lackOfPermission(pid: number, program: string, { enforce, runcon } = SYSTEM): string | undefined {
  let context = '';
  try {
    if (!isEnforced(enforce)) return undefined;
    context = readFileSync(`/proc/${pid}/attr/current`, 'latin1').replace(/[\0\n]/g, '');
    execFileSync(runcon, [context, program, '--version'], { stdio: ['ignore', 'ignore', 'pipe'], timeout: PROVE_MS });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { readonly stderr?: Buffer };
    const said = String(stderr ?? '').trim();
    return `SELinux is not known to let its domain (${context === '' ? 'unknown' : context}) run ${program}: ${said === '' ? message : said}`;
  }
}

/** @throws Error that is not about its absence */
function isEnforced(file: string): boolean {
  try {
    return readFileSync(file, 'latin1').trim() !== '0';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
