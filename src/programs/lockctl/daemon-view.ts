/** Whether this process sees files as the daemon does: the same mounts, and the same right to ignore permissions. */
import { type Process, sharesMounts, statusOf } from '../../proc/processes.ts';

/** Capabilities that open files against their permissions: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. */
const DAC = 0b110n;

/** A sentence where the daemon may see other files at a path, else undefined. @param pid the daemon's process here */
export function mountNote(pid: number): string | undefined {
  const shares = sharesMounts(pid);
  if (shares === undefined) return 'The mounts of the daemon cannot be compared with those of this tool.';
  if (shares) return undefined;
  return 'The daemon is in another mount namespace than this tool, and may see another file at this path.';
}

/** A sentence where the daemon may be denied what this process is not, else undefined. */
export function rightsNote(pid: number): string | undefined {
  try {
    const [own, daemon] = [rightsOf('self'), rightsOf(pid)];
    if ((own.capabilities & DAC & ~daemon.capabilities) !== 0n)
      return 'The daemon has fewer capabilities than this tool, and may be denied access.';
    return own.user === daemon.user ? undefined : 'The daemon runs as another user, and may be denied access.';
  } catch {
    return 'The rights of the daemon cannot be compared with those of this tool.';
  }
}

function rightsOf(pid: Process): { readonly user: string; readonly capabilities: bigint } {
  return {
    // The last is the one that file systems check.
    user: statusOf(pid, 'Uid')?.split(/\s+/).at(-1) ?? '',
    capabilities: BigInt(`0x${statusOf(pid, 'CapEff') ?? '0'}`),
  };
}
