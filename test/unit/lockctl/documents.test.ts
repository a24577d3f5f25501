/** Help, manual page, completion and the operator's guide describe one command line. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { buildProgram } from '../../../src/lockctl/program.ts';

const docs = path.resolve(import.meta.dirname, '../../../docs');
const program = buildProgram({
  daemon: () => assert.fail('no daemon is asked'),
  signal: new AbortController().signal,
});

/** Every command that does something, by its full name. */
function commandsOf(command: Command, prefix = ''): [string, Command][] {
  return command.commands.flatMap((sub): [string, Command][] => {
    const name = `${prefix}${sub.name()}`;
    return sub.commands.length > 0 ? commandsOf(sub, `${name} `) : [[name, sub]];
  });
}

/** What bash offers for words, the last of which is being typed. */
function complete(...words: readonly string[]): string[] {
  const script = `source "$1"; shift; COMP_WORDS=(virt-lockctl "$@"); COMP_CWORD=$#; compopt() { :; }; _virt_lockctl; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const file = path.join(docs, 'completion/virt-lockctl.bash');
  return execFileSync('bash', ['-c', script, 'bash', file, ...words], { encoding: 'utf8' })
    .split('\n')
    .filter(Boolean);
}

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
      assert.deepEqual(complete(...name.split(' '), '--').sort(), ['--connect', '--help', ...longs].sort());
      assert.ok(command.helpInformation().includes(command.description().split(' ')[0] ?? ''));
    });
  }

  it('complete commands', () => {
    const names = program.commands.map((command) => command.name());
    assert.deepEqual(complete('').sort(), [...names, 'help'].sort());
    assert.deepEqual(complete('--connect', 'system', 'lease', ''), ['create', 'delete', 'list']);
    assert.deepEqual(complete('s'), ['status', 'swap', 'serve']);
  });
});
