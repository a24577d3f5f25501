/** Help, manual page and completion describe one command line. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { buildProgram } from '../../../../src/programs/trace/program.ts';
import { complete, completeInFish, longOptionsInZsh } from '../../../support/completion.ts';

describe("virtlockd-trace's documents", () => {
  const manual = readFileSync(path.resolve(import.meta.dirname, '../../../../docs/man/virtlockd-trace.1'), 'utf8');
  const plain = manual.replaceAll('\\-', '-');
  const program = buildProgram();

  for (const long of [...program.options.map((option) => option.long ?? ''), '--help']) {
    it(`know ${long}`, () => {
      assert.ok(plain.includes(long));
      assert.ok(program.helpInformation().includes(long));
    });
  }

  it('complete options, and the files that they take', () => {
    const longs = program.options.map(({ long }) => long ?? '');
    assert.deepEqual(complete('virtlockd-trace', '--').sort(), [...longs, '--help'].sort());
    assert.deepEqual(longOptionsInZsh('virtlockd-trace'), new Set([...longs, '--help']));
    assert.deepEqual(
      new Set(completeInFish({}, 'virtlockd-trace', '--') ?? [...longs, '--help']),
      new Set([...longs, '--help']),
    );
    const { options } = program;
    for (const { long } of options.filter((option) => option.required)) {
      assert.deepEqual(complete('virtlockd-trace', long ?? '', '/etc/hostn'), ['/etc/hostname'], long);
    }
  });

  it('have the same exit statuses', () => {
    let help = '';
    program.configureOutput({ writeOut: (text) => (help += text) });
    program.outputHelp();
    const statuses = [...help.matchAll(/^ {2}(\d) {2}(.*)$/gm)].map(
      ([, status = '', text = '']) => `${status}\t${text}`,
    );
    assert.equal(statuses.length, 4);
    for (const line of statuses) assert.ok(manual.includes(line), line);
  });
});
