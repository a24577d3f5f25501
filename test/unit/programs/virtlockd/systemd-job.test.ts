import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EndingUnit, isToEnd, type Job, jobAtEnd } from '../../../../src/programs/virtlockd/systemd-job.ts';
import { parseStatus, unitOf } from '../../../../src/store/manager.ts';

describe('the unit of a process', () => {
  it('is named by its control groups, of both versions', () => {
    const system = { name: 'virtlockd.service', manager: 'system' };
    assert.deepEqual(unitOf('0::/system.slice/virtlockd.service\n'), system);
    assert.deepEqual(unitOf('1:name=systemd:/system.slice/virtlockd.service\n0::/..\n'), system);
    assert.deepEqual(unitOf('0::/system.slice/virtlockd.service/own/group\n'), system);
    assert.deepEqual(unitOf('0::/machine.slice/box.scope/payload/system.slice/virtlockd.service\n'), system);
    assert.deepEqual(unitOf('0::/user.slice/user-7.slice/user@7.service/app.slice/run-1.service\n'), {
      name: 'run-1.service',
      manager: 'user',
    });
  });

  it('says what of its descriptor store', () => {
    const text = 'FileDescriptorStoreMax=2048\nNFileDescriptorStore=7\nActiveExitTimestampMonotonic=1500\n';
    assert.deepEqual(parseStatus(text), { max: 2048, count: 7, ended: 1.5 });
    assert.deepEqual(parseStatus('FileDescriptorStoreMax=0\n'), { max: 0, count: 0, ended: 0 });
    assert.equal(parseStatus('Failed to connect to bus\n'), null);
  });

  it('is none of a login, a scope, a container', () => {
    for (const groups of [
      '0::/user.slice/user-0.slice/session-3.scope\n',
      '0::/user.slice/user-7.slice/user@7.service/app.slice/x.scope\n',
      '0::/\n',
      '',
    ]) {
      assert.equal(unitOf(groups), undefined, groups);
    }
  });
});

describe('why systemd ends the daemon', () => {
  let directory: string;
  let mayStopFile: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-job-'));
    mayStopFile = join(directory, 'may-stop');
  });

  after(() => {
    rmSync(directory, { recursive: true });
  });

  interface Situation {
    readonly jobs: string | undefined;
    readonly hasOwners?: boolean;
    readonly starts?: boolean;
    readonly unit?: EndingUnit['unit'];
  }

  async function asked(situation: Situation): Promise<{ job: Job; started: string[] }> {
    const unit = 'unit' in situation ? situation.unit : ({ name: 'virtlockd.service', manager: 'system' } as const);
    const started: string[] = [];
    const job = await jobAtEnd({
      unit,
      mayStopFile,
      hasOwners: () => situation.hasOwners ?? true,
      systemctl: (...args) => {
        if (args[1] === 'list-jobs') return Promise.resolve(situation.jobs);
        started.push(args.join(' '));
        return Promise.resolve((situation.starts ?? true) ? '' : undefined);
      },
    });
    return { job, started };
  }

  // As systemd 252 prints them.
  const STOP = '742 virtlockd.service      stop running\n740 virtlockd.socket       stop waiting\n';
  const RESTART = '583 virtlockd.socket       restart waiting\n634 virtlockd.service      restart running\n';
  const SHUTDOWN = ' 91 virtlockd.service stop running\n 12 shutdown.target start waiting\n';

  it('is its job for our unit', async () => {
    const free = { hasOwners: false };
    assert.equal((await asked({ jobs: STOP, ...free })).job, 'stop');
    assert.equal((await asked({ jobs: RESTART })).job, 'restart');
    assert.equal((await asked({ jobs: '432 virtlockd.service start waiting\n' })).job, 'restart');
    assert.equal((await asked({ jobs: '432 virtlockd.service reload running\n' })).job, 'none');
    assert.equal(
      (await asked({ jobs: '1 virtlockd.socket stop running\n2 my-virtlockd.service stop running\n' })).job,
      'none',
    );
    assert.equal((await asked({ jobs: '' })).job, 'none');
  });

  it('is unknown when systemd does not say it, and outside of a unit', async () => {
    assert.deepEqual(await asked({ jobs: undefined }), { job: 'unknown', started: [] });
    assert.deepEqual(await asked({ jobs: STOP, unit: undefined }), { job: 'unknown', started: [] });
  });

  it('ends the process, or has started it', async () => {
    const unit = { name: 'virtlockd.service', manager: 'system' } as const;
    const isEnding = async (jobs: string | undefined): Promise<boolean> =>
      isToEnd({ unit, systemctl: () => Promise.resolve(jobs) });
    for (const jobs of [STOP, RESTART, SHUTDOWN]) assert(await isEnding(jobs), jobs);
    const waiting = [STOP, RESTART].map((jobs) => jobs.replaceAll('running', 'waiting'));
    for (const jobs of [
      ...waiting,
      '432 virtlockd.service start running\n',
      '1 virtlockd.socket stop running\n',
      '',
      undefined,
    ])
      assert(!(await isEnding(jobs)), jobs);
    const deactivating = (...args: readonly string[]): Promise<string> =>
      Promise.resolve(args.includes('show') ? 'ActiveState=deactivating\n' : '432 virtlockd.service start waiting\n');
    assert(await isToEnd({ unit, systemctl: deactivating }), 'the job start is for the next process');
    assert(!(await isToEnd({ unit: undefined, systemctl: () => Promise.resolve(STOP) })));
  });

  it('turns a stop under locks into a restart', async () => {
    assert.deepEqual(await asked({ jobs: STOP }), {
      job: 'restart',
      started: ['--system start --no-block virtlockd.service'],
    });
    assert.deepEqual((await asked({ jobs: STOP, unit: { name: 'x.service', manager: 'user' } })).started, []);
  });

  it('leaves a stop be that holds no locks back, a shutdown, and what systemd insists on', async () => {
    assert.deepEqual(await asked({ jobs: STOP, hasOwners: false }), { job: 'stop', started: [] });
    assert.deepEqual(await asked({ jobs: SHUTDOWN }), { job: 'stop', started: [] });
    const { job, started } = await asked({ jobs: STOP, starts: false });
    assert.deepEqual([job, started.length], ['stop', 1]);
  });

  it('stops once where an operator has said so', async () => {
    writeFileSync(mayStopFile, '');
    assert.deepEqual(await asked({ jobs: STOP }), { job: 'stop', started: [] });
    assert.equal(existsSync(mayStopFile), false);
    assert.equal((await asked({ jobs: STOP })).job, 'restart');
  });

  it('does not stop for what would permit every stop, as it cannot be removed', async () => {
    mkdirSync(mayStopFile);
    assert.equal((await asked({ jobs: STOP })).job, 'restart');
    rmdirSync(mayStopFile);
  });
});
