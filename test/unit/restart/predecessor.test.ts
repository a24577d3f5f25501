import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { endAdoption } from '../../../src/lockspace/files.ts';
import { posix } from '../../../src/posix/posix.ts';
import { EMPTY_SERVER, EMPTY_STATE } from '../../../src/restart/empty-state.ts';
import { readPredecessor } from '../../../src/restart/predecessor.ts';
import { ownProcess, type OwnState } from '../../../src/daemon/state.ts';

/** A document with the pid of this process, and a resource whose owner would be killed if its lock were lost. */
describe('whose state document it is', () => {
  let directory: string;
  let stateFile: string;
  let file: number;
  let listener: number;

  beforeEach(() => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'predecessor-'));
    stateFile = path.join(directory, 'state');
    file = openSync(path.join(directory, 'disk'), 'w+');
    listener = posix.listenUnix(path.join(directory, 'socket'), 1);
  });
  afterEach(() => {
    for (const fd of [file, listener]) closeSync(fd);
    rmSync(directory, { recursive: true });
  });

  /** Whether the document is accepted; it is removed in any case. */
  function isBelieved(
    { own, resource = {}, socket = {} }: { own?: Partial<OwnState>; resource?: object; socket?: object } = {},
    isActivated = false,
  ): boolean {
    const name = path.join(directory, 'disk');
    const disk = { name, path: name, fd: file, lockHeld: true, flags: 0, owners: [process.ppid], ...resource };
    const sock = { fd: listener, errfd: -1, pid: 0, isClient: false, unlinkUNIX: true, ...socket };
    const services = [{ auth: 0, readonly: false, nrequests_client_max: 1, socks: [sock] }];
    const document = {
      ...EMPTY_STATE,
      daemon: { servers: { admin: EMPTY_SERVER, virtlockd: { ...EMPTY_SERVER, services } } },
      magic: String(process.pid),
      defaultLockspace: { resources: [disk] },
      ...(own === undefined ? {} : { 'x-virtlockd': { restarts: 1, started: 0, ...own } }),
    };
    writeFileSync(stateFile, JSON.stringify(document), { mode: 0o700 });
    const predecessor = readPredecessor(stateFile, isActivated);
    endAdoption();
    assert.ok(!existsSync(stateFile));
    return predecessor !== null;
  }

  const present = (): NonNullable<OwnState['process']> => ownProcess() ?? assert.fail('/proc tells when we started');

  it('believes what this process wrote itself', () => {
    assert.ok(isBelieved({ own: { process: present() } }));
  });

  it('does not believe what an earlier process with its pid wrote, before or after the host was booted', () => {
    const { start, boot } = present();
    assert.ok(!isBelieved({ own: { process: { start: start - 1, boot } } }));
    assert.ok(!isBelieved({ own: { process: { start, boot: '3f1f4a3c-0000-4000-8000-000000000000' } } }));
  });

  it('goes by what is open when it cannot find out which boot this is', () => {
    const { start } = present();
    assert.ok(isBelieved({ own: { process: { start, boot: '' } } }));
    assert.ok(!isBelieved({ own: { process: { start: start - 1, boot: '' } } }));
  });

  it('loses nothing for one resource without a descriptor', () => {
    const { start } = present();
    assert.ok(isBelieved({ own: { process: { start, boot: '' } }, resource: { fd: -1 } }));
  });

  for (const [writer, own] of [
    ['a C daemon', undefined],
    ['an older release', {}],
  ] as const) {
    const with_ = own === undefined ? {} : { own };

    it(`believes the document of ${writer} when all it names is open`, () => {
      assert.ok(isBelieved(with_));
      assert.ok(isBelieved({ ...with_, socket: { fd: -1 } }), 'a socket that it had closed');
      const device = openSync('/dev/null', 'r+');
      assert.ok(isBelieved({ ...with_, resource: { fd: device } }), 'a device that is no disk');
      closeSync(device);
    });

    it(`does not believe the document of ${writer} when a descriptor is something else`, () => {
      const closed = posix.duplicate(file);
      closeSync(closed);
      for (const fd of [closed, listener, openSync('/', 'r')]) {
        assert.ok(!isBelieved({ ...with_, resource: { fd } }), `resource at ${fd}`);
        if (fd !== closed && fd !== listener) closeSync(fd);
      }
      assert.ok(!isBelieved({ ...with_, resource: { 'x-inode': '1::2' } }));
      for (const fd of [closed, file]) assert.ok(!isBelieved({ ...with_, socket: { fd } }), `socket at ${fd}`);
    });

    it(`does not believe the document of ${writer} when systemd has just started the process`, () => {
      assert.ok(!isBelieved(with_, true));
    });
  }
});
