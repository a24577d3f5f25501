/** The faults of an owner's end, by the principle of the life of a lock. */
import type { EndFacts, RivalLine } from './facts.ts';
import { type EndPlan, isDaemonEnd, type RivalPlan } from './plan.ts';

/** Of all that can be wrong, this is about disks. */
const wrongGrants = [
  'granted while the owner lives',
  'deleted while the owner lives',
  'written after the grant',
] as const;

/** The kinds of faults. */
export type Kind =
  | (typeof wrongGrants)[number]
  | 'answered instead of waiting'
  | 'a sharer was kept out'
  | 'a strange answer'
  | 'a connection was closed'
  | 'went wrong';

export interface Finding {
  readonly kind: Kind;
  readonly detail: string;
}

/** A rival got a disk while its owner could write, or may have been able to. */
export const isWrongGrant = ({ kind }: Finding): boolean => wrongGrants.some((one) => one === kind);

/** For how long callers wait for an owner that is being ended. */
const AWAITED_NS = 3e9;
/** By so much a timer may be early. */
const EARLY_NS = 20e6;
/** By so much more than others a caller must have waited to count as waiting. */
const WAITED_NS = 500e6;

const HELD = 87;

const ms = (ns: number): string => `${(ns / 1e6).toFixed(1)} ms`;

/** An answer together with who got it. */
interface Answer {
  readonly rival: RivalPlan;
  readonly index: number;
  readonly sent: number;
  readonly at: number;
  readonly code: number;
  readonly gone: boolean;
  readonly line: RivalLine;
}

function answersOf({ plan, lines }: EndFacts): Answer[] {
  return lines.flatMap((line) => {
    const { is, rival: index, sent, code, gone, at } = line;
    const rival = index === undefined ? undefined : plan.rivals[index];
    if (is !== 'answer' || index === undefined || rival === undefined) return [];
    return [{ rival, index, sent: sent ?? at, at, code: code ?? 0, gone: gone ?? false, line }];
  });
}

const describe = ({ rival: { host, does, alias }, index }: Answer): string =>
  `rival ${index} (${does}${alias === 'name' ? '' : ` by ${alias}`}, ${host} host)`;

const isExclusiveGrant = ({ rival, code }: Answer): boolean => rival.does === 'acquire' && code === 0;

/** Whether success says that the owner no longer has the disk. */
function takesDisk({ does }: RivalPlan, { shared }: EndPlan): boolean {
  return does === 'acquire' || does === 'delete' || (does === 'share' && !shared);
}

const goneAt = ({ lines }: EndFacts): number => lines.find(({ is }) => is === 'gone')?.at ?? Infinity;

/** The heart of it: nothing of the owner's is anybody else's while its process is there. */
function grantedTooEarly(facts: EndFacts, answers: readonly Answer[]): Finding[] {
  const gone = goneAt(facts);
  const { began = gone, plan } = facts;
  return answers
    .filter((answer) => answer.code === 0 && !answer.gone && takesDisk(answer.rival, plan))
    .map((answer) => ({
      kind: answer.rival.does === 'delete' ? 'deleted while the owner lives' : 'granted while the owner lives',
      detail: `${describe(answer)}: ${ms(answer.at - began)} after the end began, ${ms(gone - answer.at)} before the owner was gone`,
    }));
}

/** The proof on the disk: a writer's counter that came after a rival's grant, by its time or by the mark that it overwrote. */
function writtenAfterGrant(facts: EndFacts, answers: readonly Answer[]): Finding[] {
  return facts.last.flatMap((last, disk) => {
    const grants = answers.filter((answer) => isExclusiveGrant(answer) && answer.rival.disk === disk);
    const [first] = grants.toSorted((a, b) => a.at - b.at);
    if (first === undefined) return [];
    const seen = grants.flatMap(({ line: { by, wrote } }) => (by === 'writer' ? [wrote ?? 0] : []));
    const latest = Math.max(...seen, last.byWriter ? last.at : 0);
    if (latest <= first.at && !last.byWriter) return [];
    return [
      {
        kind: 'written after the grant',
        detail: `disk ${disk} by its former owner, ${ms(latest - first.at)} after ${describe(first)} got it`,
      },
    ];
  });
}

/** When the daemon has certainly seen the end of the connection: who connected after it has been served. */
function noticedAt({ hungUp, lines }: EndFacts): number {
  if (hungUp === undefined) return Infinity;
  return lines.find(({ is, sent = 0 }) => is === 'served' && sent >= hungUp)?.at ?? Infinity;
}

/** A call for the resources of an ending owner waits: for its death, or for 3 s. */
function answeredInsteadOfWaiting(facts: EndFacts, answers: readonly Answer[]): Finding[] {
  const { plan, began } = facts;
  // Beside an ending sharer there may be a living one, for which no call waits.
  const isShareable = plan.shared && plan.rivals.some(({ does }) => does === 'share');
  if (began === undefined || isDaemonEnd(plan.way) || isShareable) return [];
  const noticed = noticedAt(facts);
  const isEarly = ({ rival, sent, at, gone, code }: Answer): boolean =>
    rival.host === 'own' &&
    !(rival.does === 'share' && plan.shared) &&
    sent >= noticed &&
    !gone &&
    !(code === 0 && takesDisk(rival, plan)) &&
    at < began + AWAITED_NS - EARLY_NS;
  return answers.filter(isEarly).map((answer) => ({
    kind: 'answered instead of waiting',
    detail: `${describe(answer)}: code ${answer.code}, ${ms(answer.at - began)} after the end began`,
  }));
}

/** One sharer that cannot be ended does not close a disk to the others. */
function sharersKeptOut({ plan, lines }: EndFacts, answers: readonly Answer[]): Finding[] {
  if (!plan.shared || isDaemonEnd(plan.way)) return [];
  // The machine may be slow: who came later and was served long before tells that the daemon was not.
  const hasWaited = ({ sent, at }: Answer): boolean =>
    lines.some((line) => line.is === 'served' && (line.sent ?? 0) > sent && line.at < at - WAITED_NS);
  return answers
    .filter(({ rival }) => rival.does === 'share')
    .filter((answer) => hasWaited(answer) || (!answer.gone && answer.code === HELD))
    .map((answer) => ({
      kind: 'a sharer was kept out',
      detail: `${describe(answer)}: code ${answer.code} after ${ms(answer.at - answer.sent)}`,
    }));
}

/** Codes that no rule expects. */
function strangeAnswers({ plan }: EndFacts, answers: readonly Answer[]): Finding[] {
  const mayVanish = plan.rivals.some(({ does }) => does === 'delete');
  const expected: Readonly<Record<RivalPlan['does'], readonly number[]>> = {
    acquire: [0, HELD, ...(mayVanish ? [38] : [])],
    share: [0, HELD, ...(mayVanish ? [38] : [])],
    create: [0, HELD],
    delete: [0, HELD],
    // 1: another rival holds it.
    release: [1, HELD],
    bystander: [],
  };
  return answers
    .filter(({ rival, code }) => !expected[rival.does].includes(code))
    .map((answer) => ({ kind: 'a strange answer', detail: `${describe(answer)}: code ${answer.code}` }));
}

function connectionsLost({ plan, lines }: EndFacts): Finding[] {
  return lines
    .filter(({ is }) => is === 'closed')
    .map(({ rival = 0 }) => plan.rivals[rival])
    .filter((rival) => rival !== undefined && !(isDaemonEnd(plan.way) && rival.host === 'own'))
    .map((rival) => ({
      kind: 'a connection was closed',
      detail: `${rival?.does ?? ''} on the ${rival?.host ?? ''} host`,
    }));
}

/** @param isC the C daemon is judged by its grants alone: it lets nobody wait, but serves nobody */
export function judge(facts: EndFacts, isC: boolean): Finding[] {
  const answers = answersOf(facts);
  const grants = [...grantedTooEarly(facts, answers), ...writtenAfterGrant(facts, answers)];
  if (isC) return grants;
  return [
    ...grants,
    ...answeredInsteadOfWaiting(facts, answers),
    ...sharersKeptOut(facts, answers),
    ...strangeAnswers(facts, answers),
    ...connectionsLost(facts),
    ...facts.problems.map((detail) => ({ kind: 'went wrong' as const, detail })),
  ];
}

/** The durations of the end, in ns. */
export interface Waits {
  /** Of clients that needed nothing of the owner. */
  readonly bystanders: readonly number[];
  /** From the owner's death to the first grant; undefined without one. */
  readonly grant: number | undefined;
  /** From the 3 s on to the first refusal. */
  readonly refusal: number | undefined;
  /** How many rivals were granted the disk for themselves. */
  readonly grants: number;
}

export function waitsOf(facts: EndFacts): Waits {
  const answers = answersOf(facts);
  const { began, lines } = facts;
  const gone = goneAt(facts);
  const grants = answers.filter((answer) => isExclusiveGrant(answer) && answer.gone).map(({ at }) => at - gone);
  const overdue = began === undefined ? Infinity : began + AWAITED_NS;
  const refusals = answers.filter(
    ({ rival, sent, at, gone: isGone }) =>
      rival.host === 'own' && !isGone && sent < overdue - EARLY_NS && at >= overdue - EARLY_NS,
  );
  return {
    bystanders: lines.flatMap(({ is, at, sent = at }) => (is === 'served' && sent >= (began ?? 0) ? [at - sent] : [])),
    grant: grants.length === 0 ? undefined : Math.max(0, Math.min(...grants)),
    refusal: refusals.length === 0 ? undefined : Math.min(...refusals.map(({ at }) => at)) - overdue,
    grants: answers.filter(isExclusiveGrant).length,
  };
}
