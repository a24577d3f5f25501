/** The group command-line: options, configuration files and circumstances of the start. */
import assert from 'node:assert/strict';
import { Skipped, slug, type WrittenCheck } from '../../check.ts';
import { type CliCase, cliCases } from './cases.ts';
import { idleChecks } from './idle.ts';
import { readOutcomes } from './recording.ts';
import { Starter } from './starter.ts';

const promises: readonly (readonly [RegExp, string])[] = [
  [/^configuration /, 'Such a configuration is accepted, or refused with this message.'],
  [/^session/, 'An ordinary user gets a session daemon with these paths, messages and exit status.'],
  [/^LIBVIRT_/, 'The environment sets the log, and wins over the configuration.'],
  [/^-d/, 'With -d the exit status says whether it serves, and it logs and removes the right files.'],
  [/^-|^operand/, 'Such a command line is accepted or refused, with these messages and this exit status.'],
  [/^/, 'In such circumstances it serves or refuses to, with these messages, files and exit status.'],
];

function cliCheck(one: CliCase): WrittenCheck {
  return {
    name: nameOf(one),
    group: 'command-line',
    promise: promises.find(([pattern]) => pattern.test(one.name))?.[1] ?? '',
    rootOnly: 'takes the paths of the system',
    run: async (context) => {
      const expected = readOutcomes(context.generation).get(one.name);
      if (expected === undefined) throw new Skipped('was not recorded');
      const { place, program } = context;
      await context.subject.kill();
      const starter = new Starter(place, program, `libvirt_version = "${context.generation}"\n`);
      const seen = await starter.run(one);
      for (const line of seen) context.note(line);
      assert.deepEqual(seen, expected);
    },
  };
}

const numbers = new Map<string, number>();

/** Cases that differ only in characters which a slug drops are numbered. */
function nameOf({ name }: CliCase): string {
  const end = slug(name.replace(/^-+/, (dashes) => (dashes.length > 1 ? 'option ' : 'letter ')));
  const number = (numbers.get(end) ?? 0) + 1;
  numbers.set(end, number);
  return `command-line/${end}${number === 1 ? '' : `-${number}`}`;
}

export const cliChecks: readonly WrittenCheck[] = [...cliCases.map(cliCheck), ...idleChecks];
