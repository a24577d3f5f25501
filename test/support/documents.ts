/** The commands of the documents, as they are printed. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '../../src/lab/trees.ts';

export function readPage(page: string): string {
  return readFileSync(join(checkout, page), 'utf8');
}

/** The text below a heading of the second level, up to the next one. */
export function sectionOf(text: string, title: string): string {
  const [, rest] = `${text}\n`.split(`\n## ${title}\n`);
  assert.ok(rest !== undefined, `there is a section '${title}'`);
  // With a blank line before whatever it begins with.
  return `\n${rest.split('\n## ')[0] ?? ''}`;
}

/** The blocks between fences of that kind. */
export function fencedBlocks(text: string, kind: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block);
}

/** The indented blocks, without their indentation. */
export function indentedBlocks(text: string): string[] {
  return [...text.matchAll(/(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+/g)].map(([block]) => block.replaceAll(/^ {4}/gm, ''));
}

/** A block between fences, with their language, or an indented one, whose language is ''. */
export interface Block {
  readonly language: string;
  readonly text: string;
}

/** Every block of a page, in its order. */
export function blocksOf(text: string): Block[] {
  const pattern = /^( *)```(\w*)\n([^]*?)^\1```$|(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+/gm;
  return [...text.matchAll(pattern)].map(([block, , language = '', fenced]) => ({
    language,
    text: fenced ?? block.replaceAll(/^ {4}/gm, ''),
  }));
}

/** The indented block below a comment that names it. */
export function runBlock(text: string, name: string): string {
  const [, rest] = text.split(`<!-- run: ${name} -->\n`);
  const [block] = indentedBlocks(`\n${rest ?? ''}`);
  assert.ok(block !== undefined, `there is a block '${name}'`);
  return block;
}

export interface Step {
  readonly command: string;
  readonly output: string;
}

/** Each command behind a prompt in a block, and what it prints. */
export function stepsIn(block: string): Step[] {
  return block
    .split(/^# /m)
    .slice(1)
    .map((step) => {
      const end = step.indexOf('\n');
      return { command: step.slice(0, end), output: step.slice(end + 1).trimEnd() };
    });
}

/** The same for all indented blocks of a text that begin with a prompt. */
export function stepsOf(text: string): Step[] {
  return indentedBlocks(text)
    .filter((block) => block.startsWith('# '))
    .flatMap(stepsIn);
}

/** Without what differs from run to run, and the blanks that columns have for it. */
export function normal(text: string): string {
  return text
    .replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/\bpid \d+/g, 'pid N')
    .replaceAll(/ {2,}/g, '  ');
}
