import assert from 'node:assert/strict';
import fc from 'fast-check';
import { ErrorCode } from '../../../xdr/error.ts';
import { ParameterType, type TypedParameter } from '../../../xdr/programs/admin.ts';
import { checkFieldLengths, int, readUnsigned, text, uint } from '../../../src/admin/parameters.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';

const known = ['minWorkers', 'maxWorkers', 'prioWorkers'] as const;

function read(params: TypedParameter[], version = 9_000_000): Partial<Record<string, number>> {
  return readUnsigned(params, known, dialectOf(version));
}

function fault(params: TypedParameter[], version?: number): string {
  try {
    read(params, version);
  } catch (error) {
    if (error instanceof RpcError) return `${error.code} ${error.detail}`;
    throw error;
  }
  return 'none';
}

describe('typed parameters', () => {
  it('are read by name', () => {
    assert.deepEqual(read([]), {});
    assert.deepEqual(read([uint('prioWorkers', 4), uint('minWorkers', 0)]), { prioWorkers: 4, minWorkers: 0 });
  });

  // Each line was recorded from C.
  const recorded: [string, TypedParameter[], string][] = [
    ['unknown', [uint('foo', 1)], "74 parameter 'foo' not supported"],
    ['empty name', [uint('', 1)], "74 parameter '' not supported"],
    ['other case', [uint('minworkers', 0), uint('MINWORKERS', 0)], "74 parameter 'MINWORKERS' not supported"],
    ['readable but not writable', [uint('freeWorkers', 1)], "74 parameter 'freeWorkers' not supported"],
    ['wrong type', [int('minWorkers', 1)], "8 invalid type 'int' for parameter 'minWorkers', expected 'uint'"],
    ['twice', [uint('maxWorkers', 1), uint('maxWorkers', 2)], "8 parameter 'maxWorkers' occurs multiple times"],
    ['wrong type before unknown, by name', [int('minWorkers', 1), uint('foo', 1)], "74 parameter 'foo' not supported"],
    [
      'twice before unknown',
      [uint('maxWorkers', 1), uint('maxWorkers', 2), uint('zzz', 1)],
      "8 parameter 'maxWorkers' occurs multiple times",
    ],
    [
      'unknown before twice',
      [uint('maxWorkers', 1), uint('maxWorkers', 2), uint('foo', 1)],
      "74 parameter 'foo' not supported",
    ],
    ['unknown twice', [uint('zzz', 1), uint('zzz', 2)], "74 parameter 'zzz' not supported"],
    [
      'twice, the second of a wrong type',
      [uint('maxWorkers', 1), text('maxWorkers', 'x')],
      "8 parameter 'maxWorkers' occurs multiple times",
    ],
    [
      'twice, the first of a wrong type',
      [text('maxWorkers', 'x'), uint('maxWorkers', 0)],
      "8 invalid type 'string' for parameter 'maxWorkers', expected 'uint'",
    ],
    [
      'equal names stay in order',
      [int('minWorkers', 0), uint('maxWorkers', 0), uint('minWorkers', 0)],
      "8 invalid type 'int' for parameter 'minWorkers', expected 'uint'",
    ],
  ];
  for (const [name, params, expected] of recorded) {
    it(`are refused: ${name}`, () => {
      assert.equal(fault(params), expected);
    });
  }

  it('of a wrong type are reported as each version does', () => {
    const params = [text('minWorkers', '')];
    const straight = "8 invalid type 'string' for parameter 'minWorkers', expected 'uint'";
    assert.equal(fault(params, 7_000_000), straight);
    assert.equal(fault(params, 11_003_000), straight);
    assert.equal(fault(params, 12_008_000), "8 invalid type 'uint' for parameter 'minWorkers', expected 'string'");
  });

  it('have names for all types', () => {
    const values = {
      int: { type: ParameterType.INT, value: 0 },
      llong: { type: ParameterType.LLONG, value: 0n },
      ullong: { type: ParameterType.ULLONG, value: 0n },
      double: { type: ParameterType.DOUBLE, value: 0 },
      boolean: { type: ParameterType.BOOLEAN, value: 0 },
      string: { type: ParameterType.STRING, value: '' },
    } as const;
    for (const [name, value] of Object.entries(values)) {
      assert.equal(
        fault([{ field: 'minWorkers', value }]),
        `8 invalid type '${name}' for parameter 'minWorkers', expected 'uint'`,
      );
    }
  });

  it('may have names of 79 bytes', () => {
    checkFieldLengths([uint('a'.repeat(79), 0)]);
    assert.throws(
      () => {
        checkFieldLengths([uint('foo', 0), uint('a'.repeat(80), 0)]);
      },
      (error) =>
        error instanceof RpcError &&
        error.code === ErrorCode.INTERNAL_ERROR &&
        error.detail === `parameter ${'a'.repeat(80)} too big for destination`,
    );
  });

  it('are taken in any order, and refused for the same reason in any order of names', () => {
    const parameter = fc.record({ field: fc.constantFrom(...known, 'foo', 'zzz'), value: fc.nat() });
    fc.assert(
      fc.property(fc.uniqueArray(parameter, { selector: ({ field }) => field }), fc.nat(), (list, turn) => {
        const params = list.map(({ field, value }) => uint(field, value));
        const at = params.length === 0 ? 0 : turn % params.length;
        const turned = [...params.slice(at), ...params.slice(0, at)];
        assert.equal(fault(params), fault(turned));
      }),
    );
  });
});
