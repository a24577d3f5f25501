import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import type { AdminContext } from '../../../src/admin/host.ts';
import { loggingHandlers } from '../../../src/admin/logging.ts';
import { PLAIN_FILES } from '../../../src/log/log.ts';
import { Logging } from '../../../src/log/logging.ts';
import { strerror } from '../../../src/posix/posix.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';

describe('log settings of the admin program', () => {
  let directory: string;

  function make(): Logging {
    const host = {
      pid: process.pid,
      identifier: 'virtlockd',
      journalSocket: join(directory, 'journal'),
      syslogSocket: join(directory, 'log'),
      sendDatagram: () => 0,
      files: PLAIN_FILES,
      isServing: false,
      strerror,
    };
    return new Logging({ host, hostname: 'h', uid: 0, now: () => new Date(0) });
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
    const logging = make();
    const context = { host: { logging } } as unknown as AdminContext;
    const setOutputs = (setting: string) => (): void => {
      loggingHandlers.setLogOutputs(context, { setting, flags: 0 });
    };
    const setFilters = (setting: string) => (): void => {
      loggingHandlers.setLogFilters(context, { setting, flags: 0 });
    };
    const path = join(directory, 'none', 'x.log');
    const before = logging.outputs;
    assert.equal(
      fault(setOutputs('4:stderr 1:nowhere')),
      "8/0 invalid argument: Invalid log destination 'nowhere' for log output '1:nowhere' -1",
    );
    assert.equal(
      fault(setOutputs(`1:file:${path}`)),
      `38/0 failed to open ${path}: No such file or directory ${os.constants.errno.ENOENT}`,
    );
    assert.equal(logging.isChanged, false);
    assert.equal(fault(setFilters('3:rpc')), 'none');
    assert.equal(logging.isChanged, true, 'a restart does not carry it over');
    assert.equal(fault(setFilters('1:a 1:')), "8/0 invalid argument: Invalid match string '' -1");
    assert.deepEqual(logging.outputs, before);
    assert.deepEqual(logging.filters, { text: '3:*rpc* ', count: 1 });
  });
});
