import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { XdrReader, XdrWriter } from '../../../xdr/codec.ts';
import { ErrorDomain } from '../../../xdr/error.ts';
import { procedure, type Program } from '../../../xdr/program.ts';
import { string, struct, u32 } from '../../../xdr/schema.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { bindProgram, Dispatcher } from '../../../src/rpc/dispatch.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { Level } from '../../../src/log/levels.ts';
import { logging } from '../../../src/log/log.ts';
import { decode, decodeError, encode, type Message, text, u32 as word, type WireError } from '../../../src/lab/wire.ts';
import { temporaryDirectory } from '../support/locks.ts';

const procedures = {
  echo: procedure(1, { doc: '', args: struct('a', { text: string(16) }), result: string(8) }),
  flagged: procedure(2, { doc: '', args: struct('a', { flags: u32 }), flags: { allowed: 5, reportedAs: 'someName' } }),
  recent: procedure(3, { doc: '', args: struct('a', {}), since: 9_000_000 }),
  negative: procedure(-4, { doc: '', args: struct('a', {}) }),
};
const program: Program<typeof procedures> = { name: 'test', number: 0x1234, version: 3, doc: '', procedures };

const calls: string[] = [];
const handlers = {
  echo: (context: string, args: { text: string }): string => {
    calls.push(`${context} ${args.text}`);
    if (args.text === 'refuse') throw new RpcError(87, ErrorDomain.LOCKSPACE, 'mine');
    if (args.text === 'defect') throw new TypeError('oops');
    return args.text;
  },
  flagged: (): undefined => undefined,
  recent: (): undefined => undefined,
  negative: (): undefined => undefined,
};

function serve(bytes: Buffer, version = 12_008_000): Message[] {
  const programs = [bindProgram<typeof procedures, string>(program, ErrorDomain.RPC, handlers, version)];
  const out = new XdrWriter(1);
  // Behind another reply and between other bytes, as in a connection.
  out.u32(0x55555555);
  const framed = Buffer.concat([Buffer.alloc(8, 0xff), bytes, Buffer.alloc(8, 0xff)]);
  const reader = new XdrReader(framed, 8, 8 + bytes.length);
  const caller = { id: 5, peer: { pid: 4557 }, context: 'context', isIdentified: false };
  new Dispatcher(programs, dialectOf(version)).dispatch(caller, reader, out);
  const replies: Message[] = [];
  for (let at = 4; at < out.length;) {
    const length = out.buffer.readUInt32BE(at);
    replies.push(decode(out.buffer.subarray(at + 4, at + length)));
    at += length;
    assert.ok(at <= out.length, 'a reply of more than it says');
  }
  return replies;
}

function one(message: Partial<Message>, version?: number): Message {
  const replies = serve(encode({ program: 0x1234, version: 3, serial: 77, ...message }), version);
  assert.equal(replies.length, 1);
  const [reply] = replies;
  assert.ok(reply !== undefined);
  return reply;
}

function refusal(message: Partial<Message>, version?: number): WireError {
  const reply = one(message, version);
  assert.equal(reply.status, 1);
  assert.equal(reply.type, 1);
  assert.equal(reply.serial, message.serial ?? 77);
  return decodeError(reply.payload);
}

describe('dispatch', () => {
  beforeEach(() => {
    calls.length = 0;
  });

  it('answers a call with its result, repeating the header', () => {
    const reply = one({ procedure: 1, payload: text('hello') });
    assert.deepEqual(reply, {
      program: 0x1234,
      version: 3,
      procedure: 1,
      type: 1,
      serial: 77,
      status: 0,
      payload: text('hello'),
    });
    assert.deepEqual(calls, ['context hello']);
  });

  describe('with the log at level debug', () => {
    const directory = temporaryDirectory();
    const file = path.join(directory.path, 'log');
    after(() => {
      directory.remove();
    });

    function debugLines(work: () => void): string[] {
      logging.setLevel(Level.DEBUG);
      logging.setOutputs(`1:file:${file}`);
      try {
        work();
      } finally {
        logging.setOutputs('');
        logging.setLevel(Level.WARNING);
      }
      return Array.from(readFileSync(file, 'latin1').matchAll(/: debug : \S+ : (.*)$/gm), ([, text = '']) => text);
    }

    it('logs each call with its arguments and what became of it', () => {
      const lines = debugLines(() => {
        one({ procedure: 1, payload: text('hello') });
        one({ procedure: 1, payload: text('refuse') });
        one({ procedure: 9 });
      });
      assert.deepEqual(lines, [
        "client 5 (pid 4557) calls test.echo: { text: 'hello' }",
        "test.echo of client 5 (pid 4557) returns: 'hello'",
        "client 5 (pid 4557) calls test.echo: { text: 'refuse' }",
        'test.echo of client 5 (pid 4557) fails: resource busy: mine',
        'procedure 9 of program 4660 of client 5 (pid 4557) fails: unknown procedure: 9',
      ]);
    });
  });

  it('ignores what stands behind the arguments', () => {
    assert.equal(one({ procedure: 1, payload: Buffer.concat([text('x'), Buffer.alloc(40, 9)]) }).status, 0);
  });

  it('takes calls with descriptors as calls, their count left out', () => {
    assert.deepEqual(one({ procedure: 1, type: 4, payload: Buffer.concat([word(0), text('x')]) }).payload, text('x'));
  });

  for (const type of [1, 2, 3, 5, 6, 7, -1]) {
    it(`drops type ${type}, to a known program or not, in silence`, () => {
      assert.deepEqual(serve(encode({ program: 0x1234, version: 3, procedure: 1, type, payload: text('x') })), []);
      assert.deepEqual(serve(encode({ program: 99, type })), []);
      assert.deepEqual(calls, []);
    });
  }

  it('names an unknown program and version by the caller`s own header', () => {
    const reply = one({ program: 0xfffffff0, version: 0xffffffff, procedure: -5 });
    assert.deepEqual([reply.program, reply.version, reply.procedure], [0xfffffff0, 0xffffffff, -5]);
    const error = decodeError(reply.payload);
    assert.equal(error.message, 'Cannot find program -16 version -1');
    assert.deepEqual([error.code, error.domain, error.str1, error.str2], [39, 7, '%s', error.message]);
    assert.equal(refusal({ version: 4, procedure: 1 }).message, 'Cannot find program 4660 version 4');
  });

  it('checks program, then status, then procedure, then arguments, then flags', () => {
    assert.match(refusal({ program: 1, status: 1 }).message ?? '', /^Cannot find program/);
    assert.equal(refusal({ procedure: 9, status: -1 }).message, 'Unexpected message status 4294967295');
    assert.equal(refusal({ procedure: -9 }).message, 'unknown procedure: -9');
    assert.equal(refusal({ procedure: 2 }).message, 'Unable to decode message payload');
    const error = refusal({ procedure: 2, payload: word(0xffffffff) });
    assert.equal(error.message, 'unsupported flags (0xfffffffa) in function someName');
    assert.deepEqual(
      [error.code, error.domain, error.str1, error.str2, error.int1, error.int2],
      [8, 7, 'someName', 'flags', 0, 0],
    );
  });

  it('takes procedure numbers signed', () => {
    assert.equal(one({ procedure: -4 }).status, 0);
  });

  it('knows procedures only from the version on that brought them', () => {
    assert.equal(one({ procedure: 3 }, 9_000_000).status, 0);
    assert.equal(refusal({ procedure: 3 }, 8_999_999).message, 'unknown procedure: 3');
  });

  it('sends what the handler refuses', () => {
    const error = refusal({ procedure: 1, payload: text('refuse') });
    assert.deepEqual(
      [error.code, error.domain, error.message, error.str1],
      [87, 51, 'resource busy: mine', 'resource busy: %1$s'],
    );
    assert.equal(refusal({ procedure: 1, payload: text('refuse') }, 9_000_000).str1, 'resource busy: %s');
  });

  it('answers also when the handler has a defect, and tells the client nothing of it', () => {
    const error = refusal({ procedure: 1, payload: text('defect') });
    assert.equal(error.code, 1);
    assert.doesNotMatch(error.message ?? '', /oops/);
  });

  it('sends one whole reply when a result cannot be written', () => {
    assert.equal(refusal({ procedure: 1, payload: text('more than 8') }).code, 1);
  });

  it('answers pings before anything else, whatever they carry, and drops other keepalive events', () => {
    const keepalive = { program: 0x6b656570, version: 1, type: 2 };
    for (const more of [{}, { serial: 0xffffffff, status: 9 }, { payload: Buffer.alloc(100) }]) {
      const [pong, ...others] = serve(encode({ ...keepalive, procedure: 1, ...more }));
      assert.deepEqual(others, []);
      assert.deepEqual(pong, { ...keepalive, procedure: 2, serial: 0, status: 0, payload: Buffer.alloc(0) });
    }
    for (const procedure of [0, 2, 3, -1]) assert.deepEqual(serve(encode({ ...keepalive, procedure })), []);
    assert.deepEqual(serve(encode({ ...keepalive, procedure: 1, version: 2 })), []);
    assert.match(refusal({ ...keepalive, procedure: 1, type: 0 }).message ?? '', /^Cannot find program 1801807216/);
  });
});
