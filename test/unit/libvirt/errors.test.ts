import assert from 'node:assert/strict';
import { DEFAULT_VERSION, dialectOf, parseVersion } from '../../../src/libvirt/dialect.ts';
import { RpcError, systemError, UnsupportedFlagsError } from '../../../src/libvirt/errors.ts';

const dialect = (version: string): ReturnType<typeof dialectOf> => dialectOf(parseVersion(version) ?? -1);

describe('versions and dialects', () => {
  it('read X.Y.Z and nothing else', () => {
    assert.equal(parseVersion('12.8.0'), 12_008_000);
    assert.equal(parseVersion('1.2.999'), 1_002_999);
    for (const text of [
      '',
      '12',
      '12.8',
      '12.8.0.1',
      '1000.0.0',
      'v12.8.0',
      '12.8.0 ',
      '-1.0.0',
      '1e1.0.0',
      '1.2.3\n',
    ]) {
      assert.equal(parseVersion(text), null, JSON.stringify(text));
    }
    assert.notEqual(parseVersion(DEFAULT_VERSION), null);
  });

  it('take the lower column between two', () => {
    assert.equal(dialect('0.0.1').logOutput, 'output');
    assert.equal(dialect('8.9.9').createLockspaceOnce, true);
    assert.equal(dialect('9.0.0').createLockspaceOnce, false);
    assert.equal(dialect('11.2.9').detailFormat, '%s');
    assert.equal(dialect('11.3.0').detailFormat, '%1$s');
    assert.equal(dialect('12.7.0').wrongTypeSwapped, false);
    assert.equal(dialect('99.0.0').wrongTypeSwapped, true);
  });
});

describe('errors', () => {
  it('carry prefix, format and detail', () => {
    assert.deepEqual(new RpcError(87, 51, 'detail').toRemote(dialect('12.8.0')), {
      code: 87,
      domain: 51,
      message: 'resource busy: detail',
      level: 2,
      dom: null,
      str1: 'resource busy: %1$s',
      str2: 'detail',
      str3: null,
      int1: -1,
      int2: -1,
      net: null,
    });
  });

  it('carry the errno of a system error, of either sign, and glibc`s text', () => {
    for (const errno of [2, -2]) {
      const { message, str1, str2, int1 } = systemError(51, errno, 'Unable to x').toRemote(dialect('9.0.0'));
      assert.deepEqual([message, str1, str2, int1], ['Unable to x: No such file or directory', '%s', message, 2]);
    }
  });

  it('report flags in a form of their own', () => {
    const { message, str1, str2, int1, int2 } = new UnsupportedFlagsError(7, 0x80000000, 'f').toRemote();
    assert.deepEqual(
      [message, str1, str2, int1, int2],
      ['unsupported flags (0x80000000) in function f', 'f', 'flags', 0, 0],
    );
  });

  it('are cut in 7.0.0, whose buffer has 1024 bytes, and in no later version', () => {
    const long = 'x'.repeat(2000);
    assert.equal(
      new RpcError(87, 51, long).toRemote(dialect('7.0.0')).message?.length,
      'resource busy: '.length + 1022,
    );
    assert.equal(new RpcError(87, 51, long).toRemote(dialect('9.0.0')).str2, long);
    const fits = 1023 - ': Is a directory'.length;
    assert.equal(systemError(51, 21, 'x'.repeat(fits)).toRemote(dialect('7.0.0')).message?.length, 1023);
    assert.equal(systemError(51, 21, 'x'.repeat(fits + 1)).toRemote(dialect('7.0.0')).message, 'Is a directory');
  });
});
