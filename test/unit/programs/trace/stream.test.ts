import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import type { Side, TraceEvent } from '../../../../src/programs/trace/events.ts';
import { NOBODY } from '../../../../src/programs/trace/peers.ts';
import { Proxy } from '../../../../src/programs/trace/proxy.ts';
import { Decoder } from '../../../../src/programs/trace/tap.ts';
import { encode, lock } from '../../../../src/lab/wire.ts';

const time = { micros: 0, isAbsolute: true };

/** Bytes as a client may send them: messages, mangled ones, and nonsense. */
const message = fc.record({
  name: fc.string({ maxLength: 40 }),
  serial: fc.nat(),
  type: fc.integer({ min: -1, max: 8 }),
});
const well = message.map(({ name, serial, type }) => encode({ ...lock.acquire('/space', name), serial, type }));
const mangled = fc.tuple(well, fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 4 })).map(([bytes, at, by]) => {
  const copy = Buffer.from(bytes);
  copy.set(by.slice(0, copy.length - (at % copy.length)), at % copy.length);
  return copy;
});
const nonsense = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes));
const said = fc
  .array(fc.oneof({ weight: 6, arbitrary: well }, mangled, nonsense), { maxLength: 12 })
  .map((parts) => Buffer.concat(parts));
const cuts = fc.array(fc.nat(), { maxLength: 20 });

function pieces(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places
    .slice(1)
    .map((end, index) => bytes.subarray(places[index], end))
    .filter(({ length }) => length > 0);
}

/** Events independent of chunks: consecutive undecoded ones become one. */
function story(bytes: readonly Buffer[]): unknown[] {
  const events: TraceEvent[] = [];
  const decoder = new Decoder((event) => events.push(event));
  decoder.open(1, NOBODY, time);
  for (const piece of bytes) decoder.data(1, 'client', piece, NOBODY, time);
  decoder.end(1, 'client', time);
  const told: unknown[] = [];
  let lost = '';
  for (const event of events) {
    if (event.kind === 'undecoded') lost += event.undecoded.bytes.toString('hex');
    else told.push(event);
  }
  return [...told, lost];
}

describe('what virtlockd-trace makes of bytes', () => {
  it('is the same in whatever pieces they come, and has every byte of them', () => {
    fc.assert(
      fc.property(said, cuts, (bytes, at) => {
        const whole = story([bytes]);
        assert.deepEqual(story(pieces(bytes, at)), whole);
        const lengths = whole.map((event) =>
          typeof event === 'object' && event !== null && 'message' in event
            ? (event as { message: { length: number } }).message.length
            : 0,
        );
        const lost = String(whole.at(-1)).length / 2;
        assert.equal(
          lengths.reduce((sum, length) => sum + length, lost),
          bytes.length,
        );
      }),
      { numRuns: 500 },
    );
  });

  it('passes through it unchanged, both ways, in whatever pieces they come', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'virtlockd-trace-'));
    const upstream = join(directory, 'upstream');
    const socket = join(directory, 'socket');
    const server = createServer({ allowHalfOpen: true });
    server.listen(upstream);
    await once(server, 'listening');
    const decoder = new Decoder(() => undefined);
    let connections = 0;
    const proxy = new Proxy(socket, upstream, { decoder, tap: decoder, nextConnection: () => ++connections });
    try {
      await fc.assert(
        fc.asyncProperty(fc.record({ client: said, daemon: said }), cuts, async (bytes, at) => {
          const accepted = once(server, 'connection');
          const near = createConnection({ path: socket, allowHalfOpen: true });
          const [far] = (await accepted) as [typeof near];
          const got: Record<Side, Buffer[]> = { client: [], daemon: [] };
          far.on('data', (data) => got.client.push(data));
          near.on('data', (data) => got.daemon.push(data));
          const ends = Promise.all([once(near, 'end'), once(far, 'end')]);
          const send = async (end: typeof near, from: Side): Promise<void> => {
            for (const piece of pieces(bytes[from], at)) {
              end.write(piece);
              await turn();
            }
            end.end();
          };
          await Promise.all([send(near, 'client'), send(far, 'daemon')]);
          await ends;
          assert.deepEqual(Buffer.concat(got.client), bytes.client);
          assert.deepEqual(Buffer.concat(got.daemon), bytes.daemon);
        }),
        { numRuns: 100 },
      );
      await proxy.drained();
      assert.equal(proxy.connections, 0);
    } finally {
      proxy.close();
      server.close();
      rmSync(directory, { recursive: true });
    }
  });
});
