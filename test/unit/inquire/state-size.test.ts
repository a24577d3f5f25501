import assert from 'node:assert/strict';
import { tooLargeForC } from '../../../src/inquire/state-size.ts';

describe('the size of the state document', () => {
  const server = (clients: number): { clients: number; maxClients: number; isFull: boolean } => ({
    clients,
    maxClients: 5000,
    isFull: false,
  });
  const judge = (locks: number, clients: number): string | undefined =>
    tooLargeForC({ locks, lockServer: server(clients), adminServer: server(1) });

  it('is told where a C daemon might not read it', () => {
    assert.equal(judge(1000, 1000), undefined);
    assert.match(judge(28_600, 0) ?? '', /^the state takes about 9 MiB and a C daemon reads 10: /);
    assert.match(judge(0, 23_000) ?? '', /^the state takes about 9 MiB/);
    assert.equal(judge(28_000, 0), undefined);
  });
});
