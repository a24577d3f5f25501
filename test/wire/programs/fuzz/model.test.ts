/**
 * The model of src/programs/fuzz/model.ts and a real daemon, side by side, through any calls, file changes and re-executions that
 * fast-check thinks of. A failure is shrunk to the fewest steps.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BlackBox } from '../../../../src/programs/fuzz/black-box.ts';
import { Run } from '../../../../src/programs/fuzz/execute.ts';
import type { CallName, Step } from '../../../../src/programs/fuzz/steps.ts';
import type { DaemonKind } from '../../../../src/lab/generation.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';

/** No process has one of these pids, so none is killed. */
const pid = fc.constantFrom(5_000_001, 5_000_002);
const on = fc.constantFrom(0, 1, 2);
const name = fc.constantFrom('a', 'b', 'c');
const lockspace = fc.constantFrom('~', '~/ls');

class StepCommand implements fc.Command<object, Run> {
  private readonly what: Step;

  constructor(what: Step) {
    this.what = what;
  }

  check(): boolean {
    return true;
  }

  run(_: object, run: Run): void {
    run.step(this.what);
  }

  toString(): string {
    return JSON.stringify(this.what);
  }
}

const call = (procedure: CallName, args: fc.Arbitrary<unknown>): fc.Arbitrary<Step> =>
  fc
    .tuple(on, args)
    .map(([connection, value]) => ({ op: 'call', on: connection, call: procedure, args: value }) as Step);
const record = (model: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<unknown> =>
  fc.record(model, { noNullPrototype: true });

const owner = record({
  uuid: fc.constant('00'.repeat(16)),
  name: fc.constant('guest'),
  id: fc.constantFrom(1, 2, 0),
  pid,
});
const open: fc.Arbitrary<Step> = on.map((connection) => ({ op: 'open', on: connection }));
const register = call('register', record({ owner, flags: fc.constant(0) }));
const resource = record({ path: lockspace, name, flags: fc.constant(0) });

const steps = [
  open,
  register,
  register,
  on.map((connection): Step => ({ op: 'close', on: connection })),
  call('restrict', record({ flags: fc.constant(0) })),
  call('newLockspace', record({ path: lockspace, flags: fc.constant(0) })),
  call('createLockspace', record({ path: lockspace })),
  call('createLockspace', record({ path: lockspace })),
  call('createResource', resource),
  call('createResource', resource),
  call('deleteResource', resource),
  ...Array.from({ length: 5 }, () =>
    call('acquireResource', record({ path: lockspace, name, flags: fc.constantFrom(0, 1, 2, 3, 4) })),
  ),
  ...Array.from({ length: 4 }, () => call('releaseResource', resource)),
];

const files = (acts: readonly ('create' | 'unlink' | 'rename' | 'link' | 'symlink')[]): fc.Arbitrary<Step> =>
  fc.tuple(fc.constantFrom(...acts), name, name).map(([act, from, to]) => ({ op: 'file', act, name: from, to }));

const restart: fc.Arbitrary<Step> = fc.constant({ op: 'restart' });

const kinds: { kind: DaemonKind; arbitraries: fc.Arbitrary<Step>[] }[] = [
  { kind: 'ours', arbitraries: [...steps, restart, files(['create', 'unlink', 'rename', 'link', 'symlink'])] },
  // C grants one file under two names, and ends at SIGUSR1 while a client is not registered.
  { kind: '9.0.0', arbitraries: [...steps, files(['create', 'unlink'])] },
];

for (const { kind, arbitraries } of kinds) {
  describe(`the model and the daemon (${kind})`, function () {
    this.timeout(120_000);
    const target = new BlackBox(kind);
    let number = 0;

    before(async function () {
      skipIf(this, missingDaemon(kind));
      await target.reset();
    });
    after(async () => {
      await target.stop();
    });

    it('agree on every answer, on the files, and on what the kernel has locked', () => {
      const command = fc.oneof(...arbitraries).map((step) => new StepCommand(step));
      const connected = fc.commands([command], { maxCommands: 40 });
      fc.assert(
        fc.property(connected, (commands) => {
          assert.equal(target.death(), null);
          const run = new Run(target, { judged: true, thorough: true }, ++number);
          try {
            for (const connection of [0, 1]) run.step({ op: 'open', on: connection });
            fc.modelRun(() => ({ model: {}, real: run }), commands);
            run.judgeEnd();
          } finally {
            run.end();
          }
        }),
        // Always the same ones, so that a failure is a change of the code.
        { numRuns: 60, seed: 20261122, endOnFailure: kind !== 'ours' },
      );
    });
  });
}
