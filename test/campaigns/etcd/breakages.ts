/** Ways to break the daemon that the campaign must notice. */
import type { Mutant } from '../../wire/programs/conformance/mutants/mutant.ts';
import { type FaultName, faultNames } from './plan.ts';

interface Breakage extends Mutant {
  /** Under which it shows within five minutes. */
  readonly faults: readonly FaultName[];
}

const ENGINE = 'src/etcd/engine.ts';
const NEVER = '1e15';

const all: readonly Breakage[] = [
  {
    name: 'no-fencing',
    edits: [
      {
        file: ENGINE,
        find: 'this.owners.arm(this.lease.killAt, this.lease.endsAt);\n    this.host.changed();',
        replace: `this.owners.arm(${NEVER}, ${NEVER});\n    this.host.changed();`,
      },
      { file: ENGINE, find: 'this.host.killOwners(holds);', replace: '' },
    ],
    faults: ['host-cut', 'host-mute', 'daemon-stop'],
    caughtBy: [],
  },
  {
    name: 'margin-from-answer',
    edits: [
      // Alone it does no harm: an attempt, and with it an answer, is given up before a margin is over. So that defence goes too.
      {
        file: 'src/etcd/gateway.ts',
        find: 'const attempt = Math.max(MIN_ATTEMPT_MS, Math.min(MAX_ATTEMPT_MS, limit / (this.endpoints.length + 1)));',
        replace: 'const attempt = limit;',
      },
      {
        file: 'src/etcd/lease.ts',
        find: 'const limit = Math.max(Math.min(this.endsAt - now, Math.max(2 * this.interval, MIN_LIMIT_MS)), 1);',
        replace: 'const limit = Math.max(this.endsAt - now, 1);',
      },
      {
        file: 'src/etcd/lease.ts',
        find: 'if (this.clock.now() >= this.killAt || sent <= current.sent) return;',
        replace: 'if (this.clock.now() >= this.killAt) return;',
      },
      {
        file: 'src/etcd/lease.ts',
        find: 'this.current = { ...current, sent: Math.floor(sent) };',
        replace: 'this.current = { ...current, sent: Math.floor(this.clock.now()) };',
      },
    ],
    faults: ['late-answer'],
    caughtBy: [],
  },
  {
    name: 'release-of-any-owner',
    edits: [
      {
        file: 'src/etcd/operations.ts',
        find: 'const isOwn = isCreatedAt(own, revision);',
        replace: 'const isOwn = isCreatedAt(`${own}//never`, revision === "" ? "" : "0");',
      },
    ],
    faults: ['answers-lost', 'compaction'],
    caughtBy: [],
  },
];

export const breakages: Readonly<Record<string, Breakage>> = Object.fromEntries(all.map((one) => [one.name, one]));

/** The faults to play: those that were asked for, or else those under which a breakage shows. */
export function faultsFor(breakage: string | undefined, asked: readonly FaultName[]): readonly FaultName[] {
  const { faults } = breakages[breakage ?? ''] ?? { faults: asked };
  return asked.length === faultNames.length ? faults : asked;
}
