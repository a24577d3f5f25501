import assert from 'node:assert/strict';
import fc from 'fast-check';
import { XdrReader, XdrWriter } from '../../../xdr/codec.ts';
import {
  beginMessage,
  endMessage,
  HEADER_SIZE,
  type Header,
  isLengthValid,
  LENGTH_SIZE,
  MESSAGE_MAX,
  MESSAGE_MIN,
  readHeader,
} from '../../../xdr/frame.ts';

const word = fc.integer({ min: 0, max: 0xffffffff });
const signed = fc.integer({ min: -0x80000000, max: 0x7fffffff });

describe('framing', () => {
  it('has the limits of the wire', () => {
    assert.equal(MESSAGE_MIN, 28);
    assert.equal(MESSAGE_MAX, 33554436);
    assert.deepEqual(
      [0, 4, 27, 28, 33554436, 33554437, 0xffffffff].map((length) => isLengthValid(length)),
      [false, false, false, true, true, false, false],
    );
  });

  it('reads the header that it writes, behind other messages too', () => {
    const header = { program: word, version: word, procedure: signed, type: signed, serial: word, status: signed };
    fc.assert(
      fc.property(fc.record(header, { noNullPrototype: true }), fc.uint8Array({ maxLength: 50 }), (value, payload) => {
        const writer = new XdrWriter(1);
        writer.u32(0xdeadbeef);
        const start = beginMessage(writer, value);
        writer.opaque(payload);
        endMessage(writer, start);
        const reader = new XdrReader(writer.bytes(), start);
        assert.equal(reader.u32(), writer.length - start);
        const read: Header = { program: 0, version: 0, procedure: 0, type: 0, serial: 0, status: 0 };
        readHeader(reader, read);
        assert.deepEqual(read, value);
        assert.equal(reader.offset, start + LENGTH_SIZE + HEADER_SIZE);
      }),
    );
  });
});
