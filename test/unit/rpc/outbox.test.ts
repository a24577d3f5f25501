import assert from 'node:assert/strict';
import { Outbox, type Sender } from '../../../src/rpc/outbox.ts';

/** Nothing is open there, so that nothing is sent. */
const CLOSED = 1_000_000;

describe('the outbox', () => {
  it('hands each connection its own unsent bytes, though the first one has others served', () => {
    const outbox = new Outbox();
    const unsent: string[] = [];
    const reply = (text: string, sender: Sender): void => {
      outbox.writer.u32(Buffer.from(text).readUInt32BE());
      outbox.queue(sender);
    };
    const sender = (name: string, onUnsent: () => void = () => undefined): Sender => ({
      fd: CLOSED,
      onUnsent: (bytes) => {
        unsent.push(`${name} ${bytes.toString('latin1')}`);
        onUnsent();
      },
    });
    const late = ['p', 'q', 'r', 's'].map((name) => sender(name));
    const first = sender('a', () => {
      for (const [index, one] of late.entries()) reply(`new${index}`, one);
    });
    reply('one.', first);
    reply('two.', sender('b'));
    outbox.send();
    assert.deepEqual(unsent, ['a one.', 'p new0', 'q new1', 'r new2', 's new3', 'b two.']);
  });
});
