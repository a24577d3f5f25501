/** Help, manual page, completion and the operator's guide describe one command line. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import { buildProgram } from '../../../../src/programs/lockctl/program.ts';
import { complete, completeIn, completeInFish, longOptionsInZsh } from '../../../support/completion.ts';

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
      const offered = ['--connect', '--help', ...longs].sort();
      assert.deepEqual(offers(...name.split(' '), '--').sort(), offered);
      assert.deepEqual(completeInFish({}, 'virt-lockctl', ...name.split(' '), '--')?.sort() ?? offered, offered);
      for (const long of offered) assert.ok(longOptionsInZsh('virt-lockctl').has(long), `zsh knows ${long}`);
      assert.ok(command.helpInformation().includes(command.description().split(' ')[0] ?? ''));
    });
  }

  it('complete commands', () => {
    const names = program.commands.map((command) => command.name());
    assert.deepEqual(offers('').sort(), [...names, 'help'].sort());
    assert.deepEqual(offers('--connect', 'system', 'lease', ''), ['create', 'delete', 'list']);
    assert.deepEqual(offers('s'), ['status', 'swap', 'serve']);
    const zsh = readFileSync(path.join(docs, 'completion/virt-lockctl.zsh'), 'utf8');
    for (const name of names) assert.ok(zsh.includes(`'${name}:`), `zsh knows ${name}`);
    const inFish = completeInFish({}, 'virt-lockctl', "''");
    if (inFish !== undefined) assert.deepEqual(inFish.sort(), [...names, 'help'].sort());
  });

  it('complete the names of guests that hold locks', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'completion-'));
    try {
      // It prints what `list --json` does, and with which daemon it was asked.
      const lock = (guest: string): string =>
        JSON.stringify({ lockspace: '', name: '/disk', owners: [{ pid: 17, name: guest, uuid: '' }] });
      const json = `[\n${['web', 'web', 'the db', 'a"quote'].map(lock).join(',\n')}\n]`;
      const script = `#!/bin/sh\n[ "$*" = "--connect /run/d list --json" ] && cat <<'end'\n${json}\nend\n`;
      writeFileSync(path.join(directory, 'virt-lockctl'), script, { mode: 0o755 });
      const environment = { PATH: `${directory}:${process.env.PATH ?? ''}` };
      const words = ['--connect', '/run/d', 'list', '--vm'];
      assert.deepEqual(completeIn(environment, 'virt-lockctl', ...words, ''), ['the db', 'web']);
      assert.deepEqual(completeIn(environment, 'virt-lockctl', ...words, 'w'), ['web']);
      const inFish = completeInFish(environment, 'virt-lockctl', ...words, "''");
      if (inFish !== undefined) assert.deepEqual(inFish, ['the db', 'web']);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
