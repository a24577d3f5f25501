/** GET_ and SET_ of log outputs and filters. */
import { type Bytes, text, u32, optional } from '../../../../lab/wire.ts';
import { type Exchange, type Step, admin, call, fresh } from '../../exchange/script.ts';

const getOutputs = call('admin', admin(14, u32(0)));
const getFilters = call('admin', admin(15, u32(0)));
const setOutputs = (value?: Bytes, flags = 0): Step => call('admin', admin(16, optional(value), u32(flags)));
const setFilters = (value?: Bytes, flags = 0): Step => call('admin', admin(17, optional(value), u32(flags)));

const words = (text: string): string[] => text.split(' ');

/** Sets each in turn and reads it back. */
const filters = (name: string, promise: string, ...values: readonly (Bytes | undefined)[]): Exchange =>
  fresh(`SET_FILTERS: ${name}`, promise, () => [
    setFilters('2:before'),
    ...values.flatMap((value) => [setFilters(value), getFilters]),
  ]);
const outputs = (name: string, promise: string, values: (dir: string) => readonly (Bytes | undefined)[]): Exchange =>
  fresh(`SET_OUTPUTS: ${name}`, promise, (dir) => [
    setOutputs('2:stderr'),
    ...values(dir).flatMap((value) => [setOutputs(value), getOutputs]),
  ]);

export const logging: readonly Exchange[] = [
  fresh(
    'GET_OUTPUTS and GET_FILTERS as started',
    'GET_OUTPUTS and GET_FILTERS report the log settings of a daemon without configuration.',
    () => [getOutputs, getFilters],
  ),
  fresh(
    'GET_OUTPUTS and GET_FILTERS with flags, cut off, with more',
    'GET_OUTPUTS and GET_FILTERS refuse flags and undecodable requests and ignore bytes behind them.',
    () =>
      [14, 15].flatMap((procedure) => [
        call('admin', admin(procedure, u32(1))),
        call('admin', admin(procedure, u32(0xffff_ffff))),
        call('admin', admin(procedure)),
        call('admin', admin(procedure, Buffer.alloc(3))),
        call('admin', admin(procedure, u32(0), u32(1))),
      ]),
  ),
  fresh(
    'SET_FILTERS and SET_OUTPUTS with flags win over the text',
    'SET_FILTERS and SET_OUTPUTS refuse flags before they parse the text, and set nothing.',
    () => [
      setFilters('3:x', 1),
      setFilters('9:x', 1),
      setFilters(undefined, 0xffff_ffff),
      setOutputs('3:stderr', 1),
      setOutputs('9:x', 2),
      setOutputs(undefined, 0x8000_0000),
      getFilters,
      getOutputs,
    ],
  ),
  fresh(
    'SET_FILTERS and SET_OUTPUTS, undecodable',
    'SET_FILTERS and SET_OUTPUTS that cannot be decoded are errors.',
    () =>
      [16, 17].flatMap((procedure) => [
        call('admin', admin(procedure)),
        call('admin', admin(procedure, u32(0))),
        call('admin', admin(procedure, optional('3:x'))),
        call('admin', admin(procedure, u32(1), u32(100), Buffer.from('abcd'))),
        call('admin', admin(procedure, u32(1), u32(4_194_305), u32(0))),
      ]),
  ),
  fresh(
    'SET_FILTERS: any word that is not zero means a text',
    'Any word but zero in front of a text means that there is one.',
    () => [
      call('admin', admin(17, u32(2), text('3:two'), u32(0))),
      getFilters,
      call('admin', admin(17, u32(0xffff_ffff), text('3:all'), u32(0))),
      getFilters,
    ],
  ),
  filters(
    'one',
    'SET_FILTERS sets one filter, and GET_FILTERS reads it back between stars.',
    ...words('3:rpc 1:util.lockspace 2:* 4:*rpc* 4:+rpc 3:++rpc 1:x'),
  ),
  filters(
    'several',
    'SET_FILTERS sets several filters with blanks between, and of equal matches the last one.',
    '2:a 3:b',
    '  3:a   4:b ',
    '1:a 1:a',
    '1:a 2:a',
    '4:a 3:b 2:c 1:d',
  ),
  filters(
    'none',
    'SET_FILTERS without a text, or with blanks alone, leaves no filters.',
    undefined,
    '3:x',
    '',
    '3:x',
    ' ',
    '3:x',
    '    ',
  ),
  filters('other blanks', 'Only a blank separates filters.', '3:a\t4:b', '3:a\n4:b', '3:a,4:b', '3: x', ' \t'),
  filters(
    'malformed',
    'SET_FILTERS refuses a filter that is not a priority and a match, and leaves the old filters.',
    '3',
    'rpc',
    'x y',
    '3 :x',
    '=3:x',
  ),
  filters('three parts', 'SET_FILTERS ignores a third part of a filter.', '3:a:b', '3:a:b:c', '3:a:', '3:x:3:y 4:z'),
  filters(
    'priorities',
    'SET_FILTERS takes the priorities 1 to 4 and refuses every other.',
    ...words('0:x 5:x -1:x x:y 3x:y 03:x +3:x 0x3:x'),
    ...words('99999999999:x 4294967299:x 18446744073709551619:x :x 3.0:x 1e0:x \t3:x'),
  ),
  filters(
    'matches',
    'SET_FILTERS takes any bytes as a match and refuses an empty one.',
    '3:',
    '3:+',
    '3:*',
    '3:**',
    '3:%s%n',
    Buffer.from('3:\xff\xfe', 'latin1'),
    Buffer.from('3:a\0b'),
  ),
  filters(
    'a bad one leaves the old',
    'SET_FILTERS with one bad filter sets none of them.',
    '3:good 9:bad',
    '9:bad 3:good',
    '3:good 3',
    '3:good 3:',
  ),
  filters(
    'a long one',
    'SET_FILTERS takes long filters and many.',
    `3:${'x'.repeat(5000)}`,
    `3:a${' 3:a'.repeat(500)}`,
  ),

  outputs('stderr', 'SET_OUTPUTS sets standard error once, with the last priority given.', () => [
    '3:stderr',
    '1:stderr',
    '4:stderr',
    '3:stderr 4:stderr',
    '4:stderr 3:stderr',
  ]),
  outputs('the default', 'SET_OUTPUTS without a text sets the default output.', () => [undefined, '1:stderr', '']),
  outputs('blanks only', 'SET_OUTPUTS with blanks alone leaves no outputs, and reading them is then an error.', () => [
    ' ',
    '3:stderr',
    '   ',
  ]),
  outputs('a file', 'SET_OUTPUTS makes a log file of mode 0600 and sets it with others.', (dir) => [
    `1:file:${dir}/log`,
    `2:file:${dir}/log`,
    `1:file:${dir}/log 4:stderr`,
    `4:stderr 1:file:${dir}/log`,
  ]),
  outputs('two files', 'SET_OUTPUTS sets several files.', (dir) => [
    `1:file:${dir}/one 2:file:${dir}/two`,
    `1:file:${dir}/one 2:file:${dir}/one`,
  ]),
  outputs('one place several times', 'SET_OUTPUTS sets one destination once, as it is named last.', (dir) => [
    `3:stderr 1:file:${dir}/log 4:stderr`,
    `1:file:${dir}/log 3:stderr 2:file:${dir}/log`,
    '1:syslog:a 2:syslog:b',
    '1:journald 2:journald',
  ]),
  outputs('relative files', 'SET_OUTPUTS makes relative paths absolute as this version of libvirt does.', () => [
    '1:file:run/virtlockd-log',
    '1:file:./run/virtlockd-log',
    '1:file:run/../run/virtlockd-log',
    '1:file:run//virtlockd-log',
  ]),
  outputs(
    'paths that are not straight',
    'SET_OUTPUTS makes paths canonical as this version of libvirt does.',
    (dir) => [`1:file:${dir}//log`, `1:file:${dir}/./log`, `1:file:/${dir}/log`],
  ),
  outputs(
    'files that cannot be opened',
    'SET_OUTPUTS refuses a file that cannot be opened, and leaves the old outputs.',
    (dir) => [
      '1:file:/virtlockd-missing/log',
      '1:file:/',
      '1:file:',
      `1:file:${dir}`,
      `1:file:${dir}/${'n'.repeat(256)}`,
    ],
  ),
  outputs('syslog', 'SET_OUTPUTS sets syslog with an identifier.', () => [
    '1:syslog:ident',
    '1:syslog:',
    '1:syslog:with.dots-and_lines',
  ]),
  outputs('journald', 'SET_OUTPUTS sets journald where it runs, and else answers as libvirt does.', () => [
    '3:journald',
    '1:journald 4:stderr',
  ]),
  outputs(
    'parts that are too few or too many',
    'SET_OUTPUTS refuses outputs with missing parts, and with extra parts where libvirt does.',
    (dir) => [
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
    ],
  ),
  outputs('places that there are not', 'SET_OUTPUTS refuses unknown destinations.', () => [
    ...words('3: 3:foo 3:foo:bar 1:STDERR 1:stderrx 1:File:/x'),
    '1: stderr',
    '1::',
  ]),
  outputs('priorities', 'SET_OUTPUTS takes the priorities 1 to 4 and refuses every other.', () => [
    ...words('0:stderr 5:stderr -1:stderr x:stderr 3x:stderr 02:stderr +2:stderr'),
    ...words('99999999999:stderr :stderr 0x2:stderr 4294967298:stderr'),
  ]),
  outputs(
    'which error comes first',
    'SET_OUTPUTS reports the first fault of an output, in the order in which libvirt checks.',
    () => ['9:foo', '9:foo:bar', '9', '9:stderr:x', '3:foo:bar:baz'],
  ),
  outputs('other blanks', 'Only a blank separates outputs.', () => [
    '4:stderr\t3:stderr',
    '4:stderr\n',
    '  3:stderr   4:stderr ',
  ]),
  outputs('a bad one leaves the old', 'SET_OUTPUTS with one bad output sets none of them.', (dir) => [
    '4:stderr 9:stderr',
    `1:file:${dir}/new 9:stderr`,
    `4:stderr 1:file:/virtlockd-missing/log`,
  ]),
  outputs('odd bytes', 'SET_OUTPUTS takes any bytes in names and ends the text at a NUL.', (dir) => [
    Buffer.from('1:syslog:\xff', 'latin1'),
    Buffer.concat([Buffer.from(`1:file:${dir}/`), Buffer.of(0xff, 0xfe)]),
    Buffer.from('3:stderr\0x'),
  ]),
];
