import assert from 'node:assert/strict';
import type { CheckResult } from '../../../../src/programs/lockctl/lockspace-test/checks.ts';
import { betweenMountsOfOneClient, isOneClient } from '../../../../src/programs/lockctl/lockspace-test/one-client.ts';
import type { Place } from '../../../../src/programs/lockctl/lockspace-test/protocol.ts';

describe('two mounts of one NFSv4 export', () => {
  const place: Place = {
    host: 'node1',
    boot: 'boot1',
    device: '0:40',
    type: 'nfs4',
    source: 'nas:/vm',
    point: '/srv/vm',
    options: 'rw',
    network: 'net:[1]',
  };

  it('are one client to the server on one host, in one network namespace', () => {
    assert.equal(isOneClient(place, { ...place, device: '0:41' }), true);
    for (const other of [
      { boot: 'boot2' },
      { network: 'net:[2]' },
      { type: 'nfs' },
      { type: 'fuse.glusterfs' },
    ] satisfies Partial<Place>[]) {
      assert.equal(isOneClient(place, { ...place, ...other }), false, JSON.stringify(other));
    }
    assert.equal(isOneClient({ ...place, boot: '' }, { ...place, boot: '' }), false);
  });

  it('show nothing where the client answers by a delegation, and everything else', () => {
    const result = (check: string, word: CheckResult['result']): CheckResult['result'] =>
      betweenMountsOfOneClient({ check, title: 'it is so', result: word, found: ['it is not'] }).result;
    assert.equal(result('replaced', 'bad'), 'unknown');
    assert.equal(result('reported', 'warning'), 'unknown');
    assert.equal(result('replaced', 'ok'), 'ok');
    assert.equal(result('exclusive-ofd', 'bad'), 'bad');
  });
});
