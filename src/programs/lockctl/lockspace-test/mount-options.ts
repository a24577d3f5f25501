/** Mount options and types with which locks do not reach other hosts, or reach them badly. From the mount's row alone: nothing is asked. */
import type { Place } from './protocol.ts';

interface Rule {
  readonly type: RegExp;
  /** One that is there. */
  readonly option?: RegExp;
  /** One that is not there. */
  readonly without?: RegExp;
  /** `type`: that the locks of two hosts keep each other out proves it wrong. */
  readonly severity: 'bad' | 'warning' | 'type';
  readonly text: string;
}

const ALONE = 'with it, the locks are of that host alone';

const RULES: readonly Rule[] = [
  { type: /^nfs4?$/, option: /^nolock$/, severity: 'bad', text: ALONE },
  { type: /^nfs4?$/, option: /^local_lock=(?:all|posix)$/, severity: 'bad', text: ALONE },
  {
    type: /^nfs4?$/,
    option: /^soft(?:err)?$/,
    severity: 'warning',
    text: 'with it, calls fail when the server is late, also those of guests; mount it with hard',
  },
  { type: /^(?:cifs|smb3)$/, option: /^nobrl$/, severity: 'bad', text: ALONE },
  { type: /^lustre$/, option: /^localflock$/, severity: 'bad', text: ALONE },
  { type: /^gfs2$/, option: /^(?:localflocks|lockproto=lock_nolock)$/, severity: 'bad', text: ALONE },
  {
    type: /^ocfs2$/,
    without: /^cluster_stack=(?!o2cb)/,
    severity: 'type',
    text: 'with the cluster stack o2cb, the locks are of each host alone: it takes a stack with a distributed lock manager',
  },
  {
    type: /^virtiofs$/,
    severity: 'type',
    text: "the kernel of each guest may have locks of its own, which no other guest sees: that depends on virtiofsd's options",
  },
  { type: /^9p$/, severity: 'type', text: 'QEMU grants every lock, and the kernel of each guest has its own' },
];

export interface MountFinding {
  readonly result: 'bad' | 'warning';
  readonly text: string;
}

/** What is known to be wrong with a mount without any test. @param isShown the locks of two hosts are tested */
export function mountFindings({ type, options }: Pick<Place, 'type' | 'options'>, isShown: boolean): MountFinding[] {
  const words = options.split(',');
  return RULES.flatMap(({ type: types, option, without, severity, text }) => {
    if (!types.test(type) || (severity === 'type' && isShown)) return [];
    const found = option === undefined ? undefined : words.find((word) => option.test(word));
    if (option !== undefined && found === undefined) return [];
    if (without !== undefined && words.some((word) => without.test(word))) return [];
    const subject = found === undefined ? type : `${type} with ${found}`;
    return [{ result: severity === 'bad' ? 'bad' : 'warning', text: `${subject}: ${text}` } as const];
  });
}
