/**
 * `npm run docs`: writes docs/wire.md from the descriptions in xdr/programs, and the list of rooms into docs/architecture.md. Tests
 * fail when a file differs from that.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DESCRIPTORS_MAX, MESSAGE_MAX, MESSAGE_MIN, MessageStatus, MessageType } from '../xdr/frame.ts';
import type { AnyProcedure, Program } from '../xdr/program.ts';
import { adminProgram } from '../xdr/programs/admin.ts';
import { inquireProgram } from '../xdr/programs/inquire.ts';
import { KEEPALIVE_PROGRAM, KEEPALIVE_VERSION, KeepaliveProcedure } from '../xdr/programs/keepalive.ts';
import { lockProgram } from '../xdr/programs/lock.ts';
import type { Shape } from '../xdr/schema.ts';
import { roomsText } from './rooms.ts';

const PROGRAMS: readonly Program<object>[] = [lockProgram, adminProgram, inquireProgram];

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

function names(table: Readonly<Record<string, number>>): string {
  return Object.entries(table)
    .map(([name, value]) => `${value} ${name}`)
    .join(', ');
}

/** A declaration in the XDR language. */
function declare(shape: Shape, name: string): string {
  switch (shape.kind) {
    case 'void':
      return 'void';
    case 'double':
    case 'bool':
      return `${shape.kind} ${name}`;
    case 'u32':
      return `unsigned int ${name}`;
    case 'i32':
      return `int ${name}`;
    case 'u64':
      return `unsigned hyper ${name}`;
    case 'i64':
      return `hyper ${name}`;
    case 'opaque':
      return `opaque ${name}[${shape.length}]`;
    case 'string':
      return `string ${name}<${shape.limit}>`;
    case 'optional':
      return declare(shape.of, `*${name}`);
    case 'list':
      return `${declare(shape.of, name)}<${shape.limit}>`;
    case 'struct':
    case 'union':
      return `${shape.name} ${name}`;
  }
}

/** Adds every struct and union of a shape, by name, in the order of first use. */
function collect(shape: Shape, found: Map<string, Shape>): void {
  switch (shape.kind) {
    case 'optional':
    case 'list':
      collect(shape.of, found);
      break;
    case 'struct':
      for (const [, field] of shape.fields) collect(field, found);
      found.set(shape.name, shape);
      break;
    case 'union':
      for (const [, , arm] of shape.arms) collect(arm, found);
      found.set(shape.name, shape);
      break;
    default:
      break;
  }
}

function declaration(shape: Shape): string[] {
  if (shape.kind === 'struct') {
    return [`struct ${shape.name} {`, ...shape.fields.map(([name, field]) => `    ${declare(field, name)};`), '};'];
  }
  if (shape.kind === 'union') {
    return [
      `union ${shape.name} switch (int type) {`,
      ...shape.arms.map(([type, name, arm]) => `    case ${type}: ${declare(arm, name)};`),
      '};',
    ];
  }
  return [];
}

/** The fields of a struct of arguments or results, in one line. */
function argumentsOf(shape: Shape): string {
  if (shape.kind !== 'struct') return '';
  return shape.fields.map(([name, field]) => declare(field, name)).join(', ');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function programSection(program: Program<object>): string[] {
  const procedures = Object.entries(program.procedures as Record<string, AnyProcedure>);
  const types = new Map<string, Shape>();
  for (const [, { args, result }] of procedures) {
    // The table has the structs of arguments and results themselves.
    for (const { shape } of [args, result]) {
      if (shape.kind === 'struct') for (const [, field] of shape.fields) collect(field, types);
    }
  }
  return [
    `## Program \`${program.name}\`: ${hex(program.number)} version ${program.version}`,
    '',
    program.doc,
    '',
    '| # | procedure | arguments | result | flags | since |',
    '| --- | --- | --- | --- | --- | --- |',
    ...procedures.map(([name, { number, args, result, flags, since }]) => {
      const allowed = flags === undefined ? '' : `\`0x${flags.allowed.toString(16)}\`, else \`${flags.reportedAs}\``;
      const version = since === undefined ? '' : [1e6, 1e3, 1].map((unit) => Math.floor(since / unit) % 1000).join('.');
      const cells = [number, `\`${name}\``, argumentsOf(args.shape), argumentsOf(result.shape), allowed, version];
      return `| ${cells.map((text) => cell(String(text))).join(' | ')} |`;
    }),
    '',
    ...procedures.map(([name, { doc }]) => `- \`${name}\`: ${doc}`),
    '',
    ...(types.size === 0 ? [] : ['```c', ...[...types.values()].flatMap(declaration), '```', '']),
  ];
}

export function wirePage(): string {
  return [
    '# The wire',
    '',
    'Made by `npm run docs` from the descriptions in `xdr/programs`, which also drive dispatch, clients and traces.',
    '',
    '## Messages',
    '',
    'All integers are big-endian XDR (RFC 4506). A message is',
    '',
    '```c',
    'unsigned int length;     /* of the whole message, this word included */',
    'unsigned int program;',
    'unsigned int version;',
    'int procedure;',
    'int type;',
    'unsigned int serial;     /* chosen by the caller, repeated in the reply */',
    'int status;',
    '```',
    '',
    'and a payload: arguments, results, or an error.',
    '',
    `- type: ${names(MessageType)}`,
    `- status: ${names(MessageStatus)}`,
    `- length: from ${MESSAGE_MIN} to ${MESSAGE_MAX}; at most ${DESCRIPTORS_MAX} descriptors come with a CALL_WITH_FDS`,
    '- strings are bytes: no encoding is checked, and a NUL ends them',
    '',
    'In the column of flags stands which bits are allowed, and the C function that an error about others names.',
    '',
    ...PROGRAMS.flatMap(programSection),
    `## Program \`keepalive\`: ${hex(KEEPALIVE_PROGRAM)} version ${KEEPALIVE_VERSION}`,
    '',
    `Events (type MESSAGE) on every socket: ${names(KeepaliveProcedure)}. A ping is answered with a pong; the daemon itself`,
    'never pings.',
    '',
  ].join('\n');
}

/** Replaces the list of rooms in docs/architecture.md. */
export function architecturePage(page: string): string {
  const list = /^ {4}xdr\/(?:.*\n)(?: {4}.*\n)*/m;
  if (!list.test(page)) throw new Error('docs/architecture.md has no list that begins with xdr/');
  return page.replace(list, roomsText());
}

if (process.argv[1] === import.meta.filename) {
  const docs = path.resolve(import.meta.dirname, '..', 'docs');
  writeFileSync(path.join(docs, 'wire.md'), wirePage());
  const architecture = path.join(docs, 'architecture.md');
  writeFileSync(architecture, architecturePage(readFileSync(architecture, 'utf8')));
}
