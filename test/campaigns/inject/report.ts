/** The report of a campaign, for people and for programs. */
import type { Counts, Finding } from './campaign.ts';
import type { Injection } from './tracer.ts';

/** Of one kind of restarts. */
export interface Result extends Counts {
  readonly ending: boolean;
  /** How many calls that differ in key were met, how many errors in all they can have, and how many were tried. */
  readonly keys: number;
  readonly errors: number;
  readonly usual: readonly string[];
  readonly findings: readonly Finding[];
  readonly unstarted: readonly Injection[];
  readonly seconds: number;
}

function replayLine({ injection: { key, nth, error, after }, scene }: Finding): string {
  return `npm run inject -- --only '${key}' --nth ${nth} --errno ${error}${after ? ' --after' : ''} --${scene.ending ? '' : 'no-'}ending`;
}

function grouped<T>(items: readonly T[], nameOf: (item: T) => string): [T, ...T[]][] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const item of items) {
    const name = nameOf(item);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return [...groups.values()];
}

function errorsOf(injections: readonly Injection[]): string {
  return [...new Set(injections.map(({ error, after }) => `${error}${after ? ' (carried out)' : ''}`))].join(', ');
}

/** Findings of one kind, and the command that repeats the first of them. */
function tellGroup(findings: readonly [Finding, ...Finding[]]): string {
  const [first] = findings;
  const again = findings.filter((finding) => finding.again).length;
  const log = first.log.split('\n').filter((line) => / (error|warning) : |^[^2]/.test(line));
  return [
    `${first.injection.key}: ${errorsOf(findings.map(({ injection }) => injection))}; ${findings.length} found, ${again} of them met again in a new scene`,
    ...first.problems.map((problem) => `  ${problem}`),
    ...log.slice(-8).map((line) => `  | ${line.slice(0, 300)}`),
    `  ${replayLine(first)}`,
    '',
  ].join('\n');
}

export function inWords(result: Result): string {
  const { ending, keys, errors, usual, findings, unstarted, runs, restarted, refused, missed, seconds } = result;
  const alike = grouped(findings, ({ injection, problems }) =>
    [injection.key.replace(/@\d+/, ''), ...problems].join('\n'),
  );
  const dead = grouped(unstarted, ({ key }) => key);
  return [
    ...usual.map((problem) => `without any error: ${problem}\n`),
    ...alike.map(tellGroup),
    ...dead.map((injections) => `ended by the runtime itself: ${injections[0].key}: ${errorsOf(injections)}\n`),
    `${ending ? 'while an owner is being killed: ' : ''}${keys} calls with ${errors} errors; ${runs} restarts in ${seconds} s: ` +
      `${restarted} restarted, ${refused} refused, ${missed} calls not met, ${unstarted.length} ended by the runtime itself, ${findings.length} found\n`,
  ].join('');
}

export function asJson(results: readonly Result[]): string {
  const told = results.map(({ findings, ...result }) => ({
    ...result,
    findings: findings.map((finding) => ({
      ...finding.injection,
      problems: finding.problems,
      again: finding.again,
      replay: replayLine(finding),
    })),
  }));
  return `${JSON.stringify({ results: told })}\n`;
}
