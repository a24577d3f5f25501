/** Log outputs and filters, read and set. */
import { type Bytes, text, u32 } from '../../lab/wire.ts';
import { optional } from '../../exchange/bytes.ts';
import { type Exchange, type Step, admin, call, fresh } from '../../exchange/script.ts';

const getOutputs = call('admin', admin(14, u32(0)));
const getFilters = call('admin', admin(15, u32(0)));
const setOutputs = (value?: Bytes, flags = 0): Step => call('admin', admin(16, optional(value), u32(flags)));
const setFilters = (value?: Bytes, flags = 0): Step => call('admin', admin(17, optional(value), u32(flags)));

/** Sets each in turn and reads back what is there. */
const filters = (name: string, ...values: readonly (Bytes | undefined)[]): Exchange =>
  fresh(`SET_FILTERS: ${name}`, () => [
    setFilters('2:before'),
    ...values.flatMap((value) => [setFilters(value), getFilters]),
  ]);
const outputs = (name: string, values: (dir: string) => readonly (Bytes | undefined)[]): Exchange =>
  fresh(`SET_OUTPUTS: ${name}`, (dir) => [
    setOutputs('2:stderr'),
    ...values(dir).flatMap((value) => [setOutputs(value), getOutputs]),
  ]);

export const logging: readonly Exchange[] = [
  fresh('GET_OUTPUTS and GET_FILTERS as started', () => [getOutputs, getFilters]),
  fresh('GET_OUTPUTS and GET_FILTERS with flags, cut off, with more', () =>
    [14, 15].flatMap((procedure) => [
      call('admin', admin(procedure, u32(1))),
      call('admin', admin(procedure, u32(0xffff_ffff))),
      call('admin', admin(procedure)),
      call('admin', admin(procedure, Buffer.alloc(3))),
      call('admin', admin(procedure, u32(0), u32(1))),
    ]),
  ),
  fresh('SET_FILTERS and SET_OUTPUTS with flags win over the text', () => [
    setFilters('3:x', 1),
    setFilters('9:x', 1),
    setFilters(undefined, 0xffff_ffff),
    setOutputs('3:stderr', 1),
    setOutputs('9:x', 2),
    setOutputs(undefined, 0x8000_0000),
    getFilters,
    getOutputs,
  ]),
  fresh('SET_FILTERS and SET_OUTPUTS, undecodable', () =>
    [16, 17].flatMap((procedure) => [
      call('admin', admin(procedure)),
      call('admin', admin(procedure, u32(0))),
      call('admin', admin(procedure, optional('3:x'))),
      call('admin', admin(procedure, u32(1), u32(100), Buffer.from('abcd'))),
      call('admin', admin(procedure, u32(1), u32(4_194_305), u32(0))),
    ]),
  ),
  fresh('SET_FILTERS: any word that is not zero means a text', () => [
    call('admin', admin(17, u32(2), text('3:two'), u32(0))),
    getFilters,
    call('admin', admin(17, u32(0xffff_ffff), text('3:all'), u32(0))),
    getFilters,
  ]),
  filters('one', '3:rpc', '1:util.lockspace', '2:*', '4:*rpc*', '4:+rpc', '3:++rpc', '1:x'),
  filters('several', '2:a 3:b', '  3:a   4:b ', '1:a 1:a', '1:a 2:a', '4:a 3:b 2:c 1:d'),
  filters('none', undefined, '3:x', '', '3:x', ' ', '3:x', '    '),
  filters('other blanks', '3:a\t4:b', '3:a\n4:b', '3:a,4:b', '3: x', ' \t'),
  filters('malformed', '3', 'rpc', 'x y', '3 :x', '=3:x'),
  filters('three parts', '3:a:b', '3:a:b:c', '3:a:', '3:x:3:y 4:z'),
  filters(
    'priorities',
    '0:x',
    '5:x',
    '-1:x',
    'x:y',
    '3x:y',
    '03:x',
    '+3:x',
    '0x3:x',
    '99999999999:x',
    '4294967299:x',
    '18446744073709551619:x',
    ':x',
    '3.0:x',
    '1e0:x',
    '\t3:x',
  ),
  filters('matches', '3:', '3:+', '3:*', '3:**', '3:%s%n', Buffer.from('3:\xff\xfe', 'latin1'), Buffer.from('3:a\0b')),
  filters('a bad one leaves the old', '3:good 9:bad', '9:bad 3:good', '3:good 3', '3:good 3:'),
  filters('a long one', `3:${'x'.repeat(5000)}`, `3:a${' 3:a'.repeat(500)}`),

  outputs('stderr', () => ['3:stderr', '1:stderr', '4:stderr', '3:stderr 4:stderr', '4:stderr 3:stderr']),
  outputs('the default', () => [undefined, '1:stderr', '']),
  outputs('blanks only', () => [' ', '3:stderr', '   ']),
  outputs('a file', (dir) => [
    `1:file:${dir}/log`,
    `2:file:${dir}/log`,
    `1:file:${dir}/log 4:stderr`,
    `4:stderr 1:file:${dir}/log`,
  ]),
  outputs('two files', (dir) => [`1:file:${dir}/one 2:file:${dir}/two`, `1:file:${dir}/one 2:file:${dir}/one`]),
  outputs('one place several times', (dir) => [
    `3:stderr 1:file:${dir}/log 4:stderr`,
    `1:file:${dir}/log 3:stderr 2:file:${dir}/log`,
    '1:syslog:a 2:syslog:b',
    '1:journald 2:journald',
  ]),
  outputs('relative files', () => [
    '1:file:run/virtlockd-log',
    '1:file:./run/virtlockd-log',
    '1:file:run/../run/virtlockd-log',
    '1:file:run//virtlockd-log',
  ]),
  outputs('paths that are not straight', (dir) => [`1:file:${dir}//log`, `1:file:${dir}/./log`, `1:file:/${dir}/log`]),
  outputs('files that cannot be opened', (dir) => [
    '1:file:/virtlockd-missing/log',
    '1:file:/',
    '1:file:',
    `1:file:${dir}`,
    `1:file:${dir}/${'n'.repeat(256)}`,
  ]),
  outputs('syslog', () => ['1:syslog:ident', '1:syslog:', '1:syslog:with.dots-and_lines']),
  outputs('journald', () => ['3:journald', '1:journald 4:stderr']),
  outputs('parts that are too few or too many', (dir) => [
    '3',
    'stderr',
    '1:file',
    '1:syslog',
    '1:journald:x',
    '1:stderr:x',
    '1:stderr:',
    '1:syslog:a:b',
    `1:file:${dir}/a:b`,
    '1:file::',
  ]),
  outputs('places that there are not', () => [
    '3:',
    '3:foo',
    '3:foo:bar',
    '1:STDERR',
    '1:stderrx',
    '1:File:/x',
    '1: stderr',
    '1::',
  ]),
  outputs('priorities', () => [
    '0:stderr',
    '5:stderr',
    '-1:stderr',
    'x:stderr',
    '3x:stderr',
    '02:stderr',
    '+2:stderr',
    '99999999999:stderr',
    ':stderr',
    '0x2:stderr',
    '4294967298:stderr',
  ]),
  outputs('which error comes first', () => ['9:foo', '9:foo:bar', '9', '9:stderr:x', '3:foo:bar:baz']),
  outputs('other blanks', () => ['4:stderr\t3:stderr', '4:stderr\n', '  3:stderr   4:stderr ']),
  outputs('a bad one leaves the old', (dir) => [
    '4:stderr 9:stderr',
    `1:file:${dir}/new 9:stderr`,
    `4:stderr 1:file:/virtlockd-missing/log`,
  ]),
  outputs('odd bytes', (dir) => [
    Buffer.from('1:syslog:\xff', 'latin1'),
    Buffer.concat([Buffer.from(`1:file:${dir}/`), Buffer.of(0xff, 0xfe)]),
    Buffer.from('3:stderr\0x'),
  ]),
];
