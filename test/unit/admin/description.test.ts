import assert from 'node:assert/strict';
import fc from 'fast-check';
import { XdrError, XdrReader, XdrWriter } from '../../../xdr/codec.ts';
import type { Procedure } from '../../../xdr/program.ts';
import {
  ADMIN_LIST_MAX,
  ADMIN_PARAMETERS_MAX,
  ADMIN_STRING_MAX,
  adminProcedures,
  adminProgram,
  ParameterType,
  typedParameter,
} from '../../../xdr/programs/admin.ts';
import type { Xdr } from '../../../xdr/schema.ts';
import { arbitrary, reference } from '../support/reference.ts';

function encode<T>(type: Xdr<T>, value: T): Buffer {
  const writer = new XdrWriter();
  type.write(writer, value);
  return Buffer.from(writer.bytes());
}

const procedures = Object.entries(adminProcedures as Record<string, Procedure<unknown, unknown>>);

describe('the description of the admin program', () => {
  it('has procedures 1 to 20, 19 and 20 since the versions that brought them', () => {
    assert.equal(adminProgram.number, 0x06900690);
    assert.deepEqual(
      procedures.map(([, { number }]) => number),
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    assert.deepEqual(
      procedures.filter(([, { since }]) => since !== undefined).map(([name, { since }]) => [name, since]),
      [
        ['setTimeout', 9000000],
        ['shutdown', 11003000],
      ],
    );
  });

  for (const [name, { number, args, result, flags }] of procedures) {
    for (const [part, type] of [
      ['arguments', args],
      ['result', result],
    ] as const) {
      it(`${number} ${name}: ${part} agree with a second codec`, () => {
        fc.assert(
          fc.property(arbitrary(type.shape), (value) => {
            const bytes = encode(type, value);
            assert.deepEqual(bytes, reference(type.shape, value).toXDR());
            const reader = new XdrReader(bytes);
            assert.deepEqual(type.read(reader), value);
            assert.equal(reader.remaining, 0);
            assert.ok(bytes.length >= type.minSize);
          }),
        );
      });

      if (type.minSize === 0) continue;
      it(`${number} ${name}: ${part} cut short are refused`, () => {
        fc.assert(
          fc.property(arbitrary(type.shape), fc.nat(), (value, cut) => {
            const bytes = encode(type, value);
            assert.throws(() => type.read(new XdrReader(bytes, 0, cut % bytes.length)), XdrError);
          }),
        );
      });
    }

    if (flags !== undefined) {
      it(`${number} ${name}: flags come last`, () => {
        const { shape } = args;
        assert.equal(shape.kind === 'struct' && shape.fields.at(-1)?.[0], 'flags');
      });
    }
  }

  it('spells a typed parameter as libvirt does', () => {
    const bytes = encode(typedParameter, { field: 'nclients_max', value: { type: ParameterType.UINT, value: 5 } });
    assert.equal(bytes.toString('hex'), `0000000c${Buffer.from('nclients_max').toString('hex')}0000000200000005`);
  });

  it('takes any word for a boolean parameter', () => {
    const value = { field: '', value: { type: ParameterType.BOOLEAN, value: -7 } } as const;
    assert.deepEqual(typedParameter.read(new XdrReader(encode(typedParameter, value))), value);
  });

  it('refuses a parameter type it does not know', () => {
    for (const type of [0, 8, -1]) {
      const bytes = Buffer.concat([Buffer.alloc(4), Buffer.alloc(12)]);
      bytes.writeInt32BE(type, 4);
      assert.throws(() => typedParameter.read(new XdrReader(bytes)), XdrError);
    }
  });

  it('refuses more parameters, servers and bytes than libvirt takes', () => {
    const parameter = { field: 'x', value: { type: ParameterType.UINT, value: 1 } } as const;
    const { args } = adminProcedures.setClientLimits;
    const params = Array.from({ length: ADMIN_PARAMETERS_MAX }, () => parameter);
    const bytes = encode(args, { server: { name: 'x' }, params, flags: 0 });
    assert.equal(args.read(new XdrReader(bytes)).params.length, ADMIN_PARAMETERS_MAX);
    bytes.writeUInt32BE(ADMIN_PARAMETERS_MAX + 1, 8);
    assert.throws(() => args.read(new XdrReader(Buffer.concat([bytes, bytes]))), XdrError);

    const servers = Array.from({ length: ADMIN_LIST_MAX + 1 }, () => ({ name: '' }));
    assert.throws(() => encode(adminProcedures.listServers.result, { servers, count: 0 }), XdrError);

    const name = Buffer.alloc(4 + ADMIN_STRING_MAX + 8);
    name.writeUInt32BE(ADMIN_STRING_MAX + 1, 0);
    assert.throws(() => adminProcedures.lookupServer.args.read(new XdrReader(name)), XdrError);
    name.writeUInt32BE(ADMIN_STRING_MAX, 0);
    assert.equal(adminProcedures.lookupServer.args.read(new XdrReader(name)).flags, 0);
  });
});
