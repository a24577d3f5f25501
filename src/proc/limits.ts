import { readFileSync } from 'node:fs';
import type { Process } from './processes.ts';

/** RLIMIT_NOFILE: descriptors have numbers below it. Node.js raises the soft one to the hard one when it starts. */
interface DescriptorLimits {
  readonly soft: number;
  readonly hard: number;
}

/** Both Infinity when they cannot be read. */
export function descriptorLimits(pid: Process): DescriptorLimits {
  const number = (text: string | undefined): number => {
    const value = Number(text);
    return Number.isNaN(value) ? Infinity : value;
  };
  try {
    const line = /^Max open files\s+(\S+)\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'latin1'));
    return { soft: number(line?.[1]), hard: number(line?.[2]) };
  } catch {
    return { soft: Infinity, hard: Infinity }; // no /proc, as in a bare chroot
  }
}

/** This process's soft limit. */
export function descriptorLimit(): number {
  return descriptorLimits('self').soft;
}
