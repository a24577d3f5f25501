/** Command lines, configuration files and circumstances of a start. */
import recorded from '../../../../../fixtures/cli/config-9.0.0.json' with { type: 'json' };

export interface CliCase {
  readonly name: string;
  readonly args: readonly string[];
  /** Text (latin1) of /run/test.conf, which `-f` names. */
  readonly config?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A shell script to run before the start, inside the lab. */
  readonly prepare?: string;
  /** The path to start the program by; a link that `prepare` makes. */
  readonly program?: string;
  /** Run as an ordinary user. */
  readonly ordinary?: boolean;
  /** With another daemon running. */
  readonly second?: boolean;
}

/** A command line as it is typed: blanks part its arguments, one at the end makes an empty one. */
const typed = (line: string): CliCase => ({ name: line, args: line.split(' ') });

const commandLines: CliCase[] = [
  { name: '(nothing)', args: [] },
  ...[
    '-h|--help|--hel|-hV|operand -h|-h --bogus|-V|--version|--vers|-Vh|-dvV|-V -x|-f /nonexistent -V|-x|-dx|-?|-:|-;|-W foo',
    '--bogus|--bogus=x|--ver|--v=1|--=x|--help=x|--version=|--verbose=3|-f|-vf|-t|-p|--config|--ti|--pid',
    '-t abc|-t |-t -1|-t 2147484|-t 4294967296|--timeout=|-t 5 -t x|-t x -h|-t 0|-t +60|-t 60x|-t 1|--t=1',
    '-- -h|operand - -- -x|-f /nonexistent|-f/nonexistent/foo|--c=/nonexistent|-f |-f /etc|-f /etc/passwd/x',
    '-p /nonexistent/x|-p /etc|-p |-p /run/other.pid|--pid-file=/run/other.pid',
  ].flatMap((lines) => lines.split('|').map(typed)),
];

const byAnotherName = { prepare: 'ln -s /usr/sbin/virtlockd /run/foo', program: '/run/foo' };

const daemonized: CliCase[] = [
  ...['-d', '-dt 60 --pid-file /run/other.pid', '-d -p /nonexistent/x', '-d -f /nonexistent', '-d -t x'].map(typed),
  { name: '-d with a bad log level', args: ['-d'], config: 'log_level = 9\n' },
  { name: '-d with a run directory that cannot be', args: ['-d'], prepare: 'echo >/run/libvirt' },
  { name: '-d with a socket that cannot be', args: ['-d'], prepare: 'mkdir -p /run/libvirt/virtlockd-sock/x' },
  { name: '-d without a place for the log', args: ['-d'], prepare: 'umount /var/log/libvirt; rmdir /var/log/libvirt' },
  { name: '-d, log elsewhere', args: ['-d'], config: 'log_outputs = "3:file:/run/log"\n' },
  {
    name: '-d with a relative configuration',
    args: ['-d', '-f', 'run/test.conf'],
    prepare: 'echo "max_clients = 5" >/run/test.conf',
  },
  { name: '-d while another runs', args: ['-d'], second: true },
  { name: '-d by another name', args: ['-d', '-p', '/nonexistent/x'], ...byAnotherName },
];

const circumstances: CliCase[] = [
  { name: 'another runs', args: [], second: true },
  { name: 'the run directory is a file', args: [], prepare: 'echo >/run/libvirt' },
  { name: 'the run directory has another mode', args: [], prepare: 'mkdir -m 711 /run/libvirt' },
  { name: 'the socket is a directory', args: [], prepare: 'mkdir -p /run/libvirt/virtlockd-sock/x' },
  { name: 'the admin socket is a directory', args: [], prepare: 'mkdir -p /run/libvirt/virtlockd-admin-sock/x' },
  {
    name: 'a file is where the socket belongs',
    args: [],
    prepare: 'mkdir /run/libvirt; echo >/run/libvirt/virtlockd-sock',
  },
  { name: 'a stale pid file', args: [], prepare: 'echo 99999999 >/run/virtlockd.pid' },
  { name: 'by another name', args: ['-h'], ...byAnotherName },
  { name: 'by another name, version', args: ['-V'], ...byAnotherName },
  { name: 'by another name, mistake', args: ['-x'], ...byAnotherName },
];

const session: CliCase[] = [
  { name: 'session', args: [] },
  { name: 'session, as libvirt starts it', args: ['--timeout=120'] },
  { name: 'session, help', args: ['-h'] },
  { name: 'session, another runs', args: [], second: true },
  { name: 'session, configuration missing', args: ['-f', '/nonexistent'] },
  { name: 'session, no runtime directory', args: [], env: { XDG_RUNTIME_DIR: '', HOME: '/run/labuser' } },
  { name: 'session, runtime directory that cannot be', args: [], env: { XDG_RUNTIME_DIR: '/nonexistent' } },
  { name: 'session, pid file elsewhere', args: ['-p', '/run/labuser/pid'] },
  { name: 'session, daemonized', args: ['-d'] },
].map((one) => ({ ...one, ordinary: true }));

const environment: CliCase[] = [
  { LIBVIRT_DEBUG: '4' },
  { LIBVIRT_DEBUG: '5' },
  { LIBVIRT_DEBUG: 'warn' },
  { LIBVIRT_DEBUG: 'error' },
  { LIBVIRT_LOG_FILTERS: '3:rpc' },
  { LIBVIRT_LOG_FILTERS: '3:rpc x' },
  { LIBVIRT_LOG_OUTPUTS: '4:file:/run/log' },
  { LIBVIRT_LOG_OUTPUTS: '4:stderr x' },
  { LIBVIRT_LOG_OUTPUTS: '4:file:/nonexistent/log' },
].flatMap((env) => {
  const name = Object.entries(env).map(([key, value]) => `${key}='${value}'`)[0] ?? '';
  return [
    { name, args: [], env },
    { name: `${name} over a configuration`, args: [], env, config: 'log_level = 4\nlog_outputs = "4:stderr"\n' },
  ];
});

/** One of so many recorded configurations is tried; the recording has all of them. */
const SAMPLE = 6;

const configurations: CliCase[] = recorded
  // Since 11.3.0 a number beyond 64 bits is an error.
  .filter(({ text }) => !/[0-9]{19}|^libvirt_version|CWD/.test(text))
  .filter((_, index) => index % SAMPLE === 0)
  .map(({ text }) => ({ name: `configuration ${JSON.stringify(text).slice(0, 60)}`, args: [], config: text }));

export const cliCases: readonly CliCase[] = [
  ...commandLines,
  ...daemonized,
  ...circumstances,
  ...session,
  ...environment,
  ...configurations,
];
