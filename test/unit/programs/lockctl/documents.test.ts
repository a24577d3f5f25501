/** Help, manual page, completion and the operator's guide describe one command line. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { buildProgram } from '../../../../src/programs/lockctl/program.ts';
import { complete } from '../../../support/completion.ts';

const docs = path.resolve(import.meta.dirname, '../../../../docs');
const program = buildProgram({
  daemon: () => assert.fail('no daemon is asked'),
  untilInterrupted: () => assert.fail('nothing runs'),
});

/** Every command that does something, by its full name. */
function commandsOf(command: Command, prefix = ''): [string, Command][] {
  return command.commands.flatMap((sub): [string, Command][] => {
    const name = `${prefix}${sub.name()}`;
    return sub.commands.length > 0 ? commandsOf(sub, `${name} `) : [[name, sub]];
  });
}

const offers = (...words: readonly string[]): string[] => complete('virt-lockctl', ...words);

describe("virt-lockctl's documents", () => {
  const manual = readFileSync(path.join(docs, 'man/virt-lockctl.1'), 'utf8').replaceAll('\\-', '-');
  const guide = readFileSync(path.join(docs, 'operations/lockctl.md'), 'utf8');

  for (const [name, command] of commandsOf(program)) {
    const longs = command.options.map(({ long }) => long ?? '').filter((long) => long !== '');

    it(`know ${name}`, () => {
      const [verb = '', sub = ''] = name.split(' ');
      assert.ok(manual.includes(`\\fB${verb}`) && manual.includes(sub), 'the manual');
      assert.ok(guide.includes(`virt-lockctl ${name}`), 'the guide');
      for (const long of longs) assert.ok(manual.includes(long), `the manual knows ${long}`);
      assert.deepEqual(offers(...name.split(' '), '--').sort(), ['--connect', '--help', ...longs].sort());
      assert.ok(command.helpInformation().includes(command.description().split(' ')[0] ?? ''));
    });
  }

  it('complete commands', () => {
    const names = program.commands.map((command) => command.name());
    assert.deepEqual(offers('').sort(), [...names, 'help'].sort());
    assert.deepEqual(offers('--connect', 'system', 'lease', ''), ['create', 'delete', 'list']);
    assert.deepEqual(offers('s'), ['status', 'swap', 'serve']);
  });
});
