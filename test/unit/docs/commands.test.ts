/** Each command of this project's programs in the documents is one that its program understands. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { CommanderError } from 'commander';
import { parseOptions as parseConformance } from '../../../src/programs/conformance/options.ts';
import { parseOptions as parseFuzz } from '../../../src/programs/fuzz/options.ts';
import { CommandError, Exit } from '../../../src/programs/lockctl/exit.ts';
import { buildProgram } from '../../../src/programs/lockctl/program.ts';
import { buildProgram as buildTrace } from '../../../src/programs/trace/program.ts';
import { parseOptions as parseDaemon } from '../../../src/programs/virtlockd/options.ts';

const root = path.resolve(import.meta.dirname, '../../..');
const pages = ['README.md', 'CONTRIBUTING.md'].concat(
  readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
);

const reached = new Error('the command line is understood');
const stop = (): never => {
  throw reached;
};

/** How each program parses its words. @throws for a mistake */
const parsers: Readonly<Record<string, (words: readonly string[]) => unknown>> = {
  async 'virt-lockctl'(words) {
    const program = buildProgram({ daemon: stop, untilInterrupted: stop });
    for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)]) {
      command.configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
    }
    try {
      await program.parseAsync(words, { from: 'user' });
    } catch (error) {
      const isMistake =
        // A sentence names a command without what it takes.
        (error instanceof CommanderError && error.exitCode !== 0 && error.code !== 'commander.missingArgument') ||
        (error instanceof CommandError && error.exit === Exit.USAGE);
      if (isMistake) throw error;
    }
  },
  'virtlockd-conformance': parseConformance,
  'virtlockd-fuzz': parseFuzz,
  'virtlockd-trace'(words) {
    buildTrace()
      .exitOverride()
      .parseOptions([...words]);
  },
  virtlockd(words) {
    const parsed = parseDaemon(words);
    assert.notEqual(parsed.kind, 'usage', JSON.stringify(parsed));
  },
};

/** The words of a command up to a pipe, a redirection, a comment, or the explanation that follows it in a column of its own. */
function wordsOf(line: string): string[] {
  const [command = ''] = line.split(/ (?=[|>;#&])| {3,}/);
  return [...command.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(
    ([, single, double, plain]) => single ?? double ?? plain ?? '',
  );
}

function* commandsOf(text: string): Generator<string> {
  const inBlocks = /^(?: {4}|[#$] )(?:[#$] )?((?:\/?[\w/]*bin\/)?virt(?:lockd|-lockctl)\S* .*)$/gm;
  const inSentences = /`((?:bin\/)?virt(?:lockd|-lockctl)[\w-]* [^`]*)`/g;
  for (const pattern of [inBlocks, inSentences]) for (const [, line = ''] of text.matchAll(pattern)) yield line;
}

describe('the commands in the documents', () => {
  let total = 0;
  for (const page of pages) {
    it(`of ${page} are understood`, async () => {
      for (const line of commandsOf(readFileSync(path.join(root, page), 'utf8'))) {
        const [program = '', ...words] = wordsOf(line);
        const parse = parsers[path.basename(program)];
        // A sentence may begin with a program's name, and `COMMAND` and `TARGET` stand for any.
        if (
          parse === undefined ||
          !/^[-a-z/]/.test(words[0] ?? '') ||
          words.some((word) => /^(COMMAND|TARGET)$/.test(word))
        )
          continue;
        total++;
        await assert.doesNotReject(Promise.resolve(words).then(parse), `${page}: ${line}`);
      }
    });
  }

  it('are found', () => {
    assert.ok(total >= 40, String(total));
  });
});
