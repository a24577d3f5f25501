import assert from 'node:assert/strict';
import { readQuestion } from '../../../../src/programs/lockctl/quick-who.ts';

describe('a plain who on the command line', () => {
  const plain: readonly (readonly [string, ReturnType<typeof readQuestion>])[] = [
    ['who /a', { connect: undefined, path: '/a', json: false }],
    ['who /a --json', { connect: undefined, path: '/a', json: true }],
    ['who --json a', { connect: undefined, path: 'a', json: true }],
    ['-c session who who', { connect: 'session', path: 'who', json: false }],
    ['who /a --connect=/run/x', { connect: '/run/x', path: '/a', json: false }],
    ['--connect list who /a', { connect: 'list', path: '/a', json: false }],
  ];
  for (const [line, question] of plain) {
    it(line, () => {
      assert.deepEqual(readQuestion(line.split(' ')), question);
    });
  }

  for (const line of [
    '',
    'who',
    'who /a /b',
    'list',
    'list who',
    '--json who /a',
    'who --help',
    'who /a --jsn',
    'who -- -a',
    '-c',
    'who /a -c',
  ]) {
    it(`'${line}' is none`, () => {
      assert.equal(readQuestion(line.split(' ')), null);
    });
  }
});
