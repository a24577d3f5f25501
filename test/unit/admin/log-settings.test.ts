import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { LogSettings } from '../../../src/admin/log-settings.ts';
import { PLAIN_FILES } from '../../../src/log/log.ts';
import { Logging } from '../../../src/log/logging.ts';
import { strerror } from '../../../src/posix/posix.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';

describe('log settings of the admin program', () => {
  let directory: string;

  function make(): LogSettings {
    const host = {
      pid: process.pid,
      identifier: 'virtlockd',
      journalSocket: join(directory, 'journal'),
      syslogSocket: join(directory, 'log'),
      sendDatagram: () => 0,
      files: PLAIN_FILES,
      strerror,
    };
    return new LogSettings(new Logging({ host, hostname: 'h', uid: 0, now: () => new Date(0) }));
  }

  function fault(change: () => void): string {
    try {
      change();
    } catch (error) {
      if (error instanceof RpcError) return `${error.code}/${error.domain} ${error.message} ${error.errno}`;
      throw error;
    }
    return 'none';
  }

  beforeEach(() => {
    directory = mkdtempSync(join(os.tmpdir(), 'virtlockd-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('are refused as errors that clients get, with nothing changed', () => {
    const settings = make();
    settings.setFilters('3:rpc');
    const before = settings.outputs;
    assert.equal(
      fault(() => {
        settings.setOutputs('4:stderr 1:nowhere');
      }),
      "8/0 invalid argument: Invalid log destination 'nowhere' for log output '1:nowhere' -1",
    );
    const path = join(directory, 'none', 'x.log');
    assert.equal(
      fault(() => {
        settings.setOutputs(`1:file:${path}`);
      }),
      `38/0 failed to open ${path}: No such file or directory ${os.constants.errno.ENOENT}`,
    );
    assert.equal(
      fault(() => {
        settings.setFilters('1:a 1:');
      }),
      "8/0 invalid argument: Invalid match string '' -1",
    );
    assert.deepEqual(settings.outputs, before);
    assert.deepEqual(settings.filters, { text: '3:*rpc* ', count: 1 });
  });

  it('are carried over a restart once they were changed', () => {
    const settings = make();
    assert.equal(settings.state, undefined);
    const path = join(directory, 'x.log');
    settings.setOutputs(`1:file:${path}`);
    settings.setFilters('3:rpc 1:*x');
    assert.ok(existsSync(path));
    const { state } = settings;
    assert.ok(state);
    const next = make();
    next.restore(state);
    assert.deepEqual(next.outputs, settings.outputs);
    assert.deepEqual(next.filters, settings.filters);
    assert.deepEqual(next.state, state);
    next.forget();
    assert.equal(next.state, undefined);
  });
});
