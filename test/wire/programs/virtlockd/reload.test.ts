/** SIGHUP: the configuration is taken up while running, or not at all. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { type LockDaemon, startDaemon } from '../../../../src/lab/start.ts';
import { eventually } from '../../../../src/lab/process.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { lock } from '../../../../src/lab/wire.ts';

const FILE = '/etc/libvirt/virtlockd.conf';

describe('SIGHUP', () => {
  let daemon: LockDaemon | undefined;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours', { configuration: 'max_clients = 1\n' });
  });

  after(async () => {
    await daemon?.stop();
  });

  /** Writes a configuration, sends the signal, and waits until the log at `log` says `said`. */
  async function reload(configuration: string, log: string, said: string): Promise<void> {
    assert(daemon !== undefined);
    daemon.lab.write(FILE, configuration);
    const path = daemon.lab.outside(log);
    const count = (): number => (existsSync(path) ? readFileSync(path, 'latin1').split(said).length : 1);
    const before = count();
    daemon.process.kill('SIGHUP');
    await eventually(`the log says ${said}`, () => count() > before);
  }

  it('takes up log settings and limits, and no client notices', async () => {
    assert(daemon !== undefined);
    const first = await daemon.connect();
    await first.must(lock.register({ pid: process.pid }));
    const second = await daemon.connect();
    await reload(
      'max_clients = 2\nlog_level = 2\nlog_outputs = "2:file:/run/one"\n',
      '/run/one',
      'Configuration taken up',
    );
    // Until then it waited in the backlog.
    await second.must(lock.register({ pid: process.pid }));
    first.close();
    second.close();
  });

  it('leaves all as it was when there is a mistake', async () => {
    await reload('max_clients = x\n', '/run/one', 'Configuration is not taken up: ');
    await reload('log_level = 1\nlog_outputs = "2:file:/run/two 1:bogus"\n', '/run/one', 'Invalid log destination');
    assert(daemon !== undefined);
    assert(!readFileSync(daemon.lab.outside('/run/one'), 'latin1').includes(': debug :'));
    await reload('log_level = 2\nlog_outputs = "2:file:/run/three"\n', '/run/three', 'Configuration taken up');
  });
});
