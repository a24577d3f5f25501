import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { Client } from '../../../src/client/client.ts';
import { RemoteFailure } from '../../../src/client/errors.ts';
import { awaitRegistered, watchRefusals } from '../../../src/swap/own-daemon.ts';

/** A daemon that answers these procedures of the inquire program, and no others. */
function daemonWith(results: Record<string, () => unknown>): Pick<Client, 'call'> {
  const call = (_program: unknown, name: string): Promise<unknown> => {
    const result = results[name];
    if (result !== undefined) return Promise.resolve(result());
    return Promise.reject(
      new RemoteFailure({
        code: 39,
        domain: 7,
        message: `unknown procedure: ${name}`,
        level: 2,
        str1: null,
        str2: null,
        str3: null,
        int1: 0,
        int2: 0,
      }),
    );
  };
  return { call: call as Client['call'] };
}

async function watch(results: Record<string, () => unknown>, happen: () => void): Promise<string | undefined> {
  const refusal = await watchRefusals(daemonWith(results));
  assert.equal(refusal(), undefined);
  happen();
  let reason: string | undefined;
  for (let turns = 0; turns < 10 && reason === undefined; turns++) {
    await turn();
    reason = refusal();
  }
  return reason;
}

describe('a daemon of ours that refuses to execute its program', () => {
  let refusals = 3;
  const counters = (): unknown => ({ counters: [{ name: 'restartsRefused', value: refusals }] });
  const refuse = (): void => {
    refusals++;
  };

  it('says why, in a field of its own', async () => {
    const refusedRestart = (): unknown => ({ refused: { time: 1, reason: 'no \x1b[1m proof' } });
    assert.match((await watch({ counters, refusedRestart }, refuse)) ?? '', /^no .* proof$/);
    assert.doesNotMatch((await watch({ counters, refusedRestart }, refuse)) ?? '', /\x1b/);
  });

  it('is believed to have refused also when its release cannot say why', async () => {
    assert.equal(await watch({ counters }, refuse), 'this release of the daemon gives the reason in its log only');
  });

  it('is waited for where its release does not count', async () => {
    assert.equal(await watch({}, refuse), undefined);
  });

  it('has not refused when it did so before', async () => {
    assert.equal(await watch({ counters }, () => undefined), undefined);
  });
});

describe('clients of a daemon of ours before a C daemon takes over', () => {
  it('may be about to register, and are not closed at once by force', async () => {
    const registering = { id: 7, pid: 300, server: 'virtlockd', owner: null, connectedAt: 0 };
    const lists = [[registering], [{ ...registering, owner: { pid: 300 } }]];
    let closed = 0;
    const daemon = daemonWith({
      clients: () => ({ clients: lists.shift() ?? [], next: 0n }),
      closeClient: () => closed++,
    });
    await awaitRegistered(daemon as Client, true);
    assert.equal(closed, 0);
  });
});
