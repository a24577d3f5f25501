/** A cell of the virt-admin columns: a session of virt-admin, compared with one with the C daemon of its own release. */
import { type LockDaemon, startDaemon } from '../../lab/start.ts';
import type { DaemonKind, Generation } from '../../lab/generation.ts';
import { missingDaemon } from '../../lab/requirements.ts';
import type { Lab } from '../../lab/root.ts';
import { openLab } from '../../lab/trees.ts';
import { lock } from '../../lab/wire.ts';
import { type Outcome, commands, missingVirtAdmin, session, typed, virtAdmin } from './virt-admin.ts';
import type { Check } from './model.ts';
import { reach, speakingAs } from './scene.ts';

/** The outcomes of all commands; `end`: of daemon-shutdown, and what became of the daemon. */
interface Session {
  readonly outcomes: readonly Outcome[];
  readonly end: string;
}

async function play(kind: DaemonKind, generation: Generation): Promise<Session> {
  const home = await openLab(kind);
  const lab = await openLab(generation);
  let daemon: LockDaemon | undefined;
  try {
    daemon = await startDaemon(kind, { lab: home, configuration: speakingAs(generation) });
    reach(daemon, lab);
    const outcomes = (await session(daemon, lab)).map((outcome) =>
      ownVersion(outcome, kind === 'ours' ? generation : kind),
    );
    return { outcomes, end: await shutdown(daemon, lab) };
  } finally {
    await daemon?.stop();
    await lab.close();
    await home.close();
  }
}

/** Masks the daemon's own version, which is no difference; another version would be one. */
const ownVersion = (outcome: Outcome, version: Generation): Outcome => ({
  ...outcome,
  stdout: outcome.stdout.replaceAll(`daemon: ${version}\n`, 'daemon: <its own version>\n'),
});

/** The daemon goes on where virt-admin does not know the command, or the daemon the call: both came with 11.2. */
async function shutdown(daemon: LockDaemon, lab: Lab): Promise<string> {
  const { code, stdout, stderr } = await virtAdmin(lab, ['daemon-shutdown']);
  const goesOn = await answers(daemon);
  const finished = goesOn ? undefined : await daemon.process.exited;
  const state = finished === undefined ? 'goes on' : `ended with ${finished.code ?? finished.signal ?? 'nothing'}`;
  return `exit status ${code ?? 'none'}\n${stdout}${stderr}the daemon ${state}`;
}

async function answers(daemon: LockDaemon): Promise<boolean> {
  try {
    const peer = await daemon.connect();
    await peer.ask(lock.release('', 'none'));
    peer.close();
    return true;
  } catch {
    return false;
  }
}

const show = ({ code, stdout, stderr }: Outcome): string =>
  `exit status ${code ?? 'none'}\n${stdout}${stderr}`.trimEnd();

const references = new Map<Generation, Promise<Session>>();

/** The session with the C daemon of virt-admin's own release; played once. */
async function reference(generation: Generation): Promise<Session> {
  const known = references.get(generation) ?? play(generation, generation);
  references.set(generation, known);
  return known;
}

/** @throws Error when a daemon or virt-admin cannot be run. */
export async function adminCell(kind: DaemonKind, generation: Generation): Promise<Check[]> {
  const missing = missingDaemon(kind) ?? missingDaemon(generation) ?? missingVirtAdmin(generation);
  if (missing !== undefined) throw new Error(missing);
  const wanted = await reference(generation);
  const seen = await play(kind, generation);
  const promise = `virt-admin ${generation} prints what the C daemon ${generation} makes it print, with the same exit status.`;
  const compare = (name: string, expected: string, actual: string): Check =>
    expected === actual
      ? { name, promise, verdict: 'pass' }
      : { name, promise, verdict: 'fail', expected: expected.split('\n'), seen: actual.split('\n') };
  const numbers = new Map<string, number>();
  const checks = commands.map((command, index) => {
    const [expected, actual] = [wanted.outcomes[index], seen.outcomes[index]];
    // Some commands are repeated after others that change their output.
    const number = (numbers.get(typed(command)) ?? 0) + 1;
    numbers.set(typed(command), number);
    const name = typed(command) + (number === 1 ? '' : ` (${number})`);
    return compare(name, expected === undefined ? '' : show(expected), actual === undefined ? '' : show(actual));
  });
  return [...checks, compare('daemon-shutdown', wanted.end, seen.end)];
}
