import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { bytesOf, commandOf, textOf, toPath } from '../../../src/posix/bytes.ts';

describe('bytes', () => {
  const japanese = bytesOf('日本');

  it('are a character each, and come from and go to what Node.js decodes', () => {
    assert.equal(japanese, '\xe6\x97\xa5\xe6\x9c\xac');
    assert.equal(textOf(japanese), '日本');
    assert.deepEqual(toPath('/\xff'), Buffer.from([0x2f, 0xff]));
    for (const text of ['', '/a b', '/ö', '/日本']) assert.equal(textOf(bytesOf(text)), text);
    assert.equal(textOf('/\xff'), undefined);
  });

  /** The arguments and the variable that a program gets. */
  function given(words: readonly string[], value: string): string[] {
    const script =
      'import os,sys;sys.stdout.buffer.write(b"\\0".join([*map(os.fsencode, sys.argv[1:]), os.environb[b"VALUE"]]))';
    const { file, args, env } = commandOf(['python3', '-c', script, ...words], {
      PATH: process.env.PATH,
      VALUE: value,
    });
    return execFileSync(file, args, { env }).toString('latin1').split('\0');
  }

  it('are what a command gets as its words and variables', () => {
    const odd = ['', "a'b\\n$(x)\n\n", japanese, bytesOf('ö'), '\xff', '-n', '%s'];
    for (const value of odd) assert.deepEqual(given(odd, value), [...odd, value]);
    const decodable = odd.filter((word) => word !== '\xff');
    assert.deepEqual(given(decodable, 'x'), [...decodable, 'x']);
    assert.notEqual(commandOf(decodable).file, '/bin/sh');
  });
});
