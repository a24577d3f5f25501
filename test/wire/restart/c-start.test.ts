/**
 * Compares our forecast of a C daemon's start with a real start in the same situation. Where the C daemon ends, a hand-over would have
 * lost every lock.
 */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { CStart, CStartAnswer } from '../../../src/restart/answers.ts';
import { EMPTY_STATE } from '../../../src/restart/empty-state.ts';
import { programOf, startDaemon } from '../../../src/lab/start.ts';
import { eventually } from '../../../src/lab/process.ts';
import { type Generation, generations } from '../../../src/lab/generation.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { type Lab, ordinaryUser } from '../../../src/lab/root.ts';

const CONFIGURATION = '/etc/libvirt/virtlockd.conf';
const SESSION_CONFIGURATION = join(ordinaryUser.home, '.config/libvirt/virtlockd.conf');

interface Situation {
  readonly name: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly ordinary?: true;
  /** Text of the configuration file. */
  readonly configuration?: string;
  /** Shell commands that make it so, as root. */
  readonly prepare?: string;
  /** Why the C daemon ends; absent: it serves. */
  readonly reason?: RegExp;
  /** It does not end, but waits. */
  readonly waits?: true;
}

const outputs = (text: string): string => `log_outputs = "${text}"\n`;

const situations: readonly Situation[] = [
  { name: 'nothing is wrong' },
  {
    name: 'keys that it does not know',
    configuration: 'foo = 1\nlibvirt_version = "12.8.0"\nlost_locks = "end"\nlock_confirm_interval = 5\n',
  },
  {
    name: 'a number as a string',
    configuration: 'max_clients = "x"\n',
    reason: /expected an unsigned integer .*: correct the file/,
  },
  {
    name: 'a mistake in the syntax',
    configuration: 'max_clients\n',
    reason: /syntax error: .*:1: expecting an assignment/,
  },
  { name: 'no log level', configuration: 'log_level = 9\n', reason: /argument '9' is invalid: correct the setting/ },
  { name: 'no log filter', configuration: 'log_filters = "1"\n', reason: /Malformed format for filter '1'/ },
  { name: 'no log output', configuration: outputs('1:file'), reason: /does not meet the format requirements/ },
  { name: 'a log file', configuration: outputs('1:file:/run/log') },
  {
    name: 'a log file in no directory',
    configuration: outputs('1:file:/none/log'),
    reason: /failed to open \/none\/log: No such file/,
  },
  {
    name: 'a second log file in no directory',
    configuration: outputs('1:stderr 1:file:/none/log'),
    reason: /failed to open/,
  },
  {
    name: 'a directory as a log file',
    configuration: outputs('1:file:/run'),
    reason: /failed to open \/run: Is a directory/,
  },
  {
    name: 'a socket as a log file',
    configuration: outputs('1:file:/run/socket'),
    prepare: `${process.execPath} -e "require('net').createServer().listen('/run/socket', () => process.kill(process.pid, 9))" || :`,
    reason: /failed to open/,
  },
  {
    name: 'a FIFO that nobody reads as a log file',
    configuration: outputs('1:file:/run/fifo'),
    prepare: 'mkfifo /run/fifo',
    reason: /\/run\/fifo is a FIFO, which is waited for/,
    waits: true,
  },
  {
    name: 'a link that leads nowhere as a log file',
    configuration: outputs('1:file:/run/link'),
    prepare: 'ln -s /run/target /run/link',
  },
  {
    name: 'a link into no directory as a log file',
    configuration: outputs('1:file:/run/link'),
    prepare: 'ln -s /none/target /run/link',
    reason: /failed to open/,
  },
  {
    name: 'a log file where there is no room for one',
    configuration: outputs('1:file:/run/full/log'),
    prepare: 'mkdir /run/full; mount -t tmpfs -o nr_inodes=2 none /run/full; touch /run/full/other',
    reason: /No space left/,
  },
  {
    name: 'a log file that may not be changed',
    configuration: outputs('1:file:/run/ro/log'),
    prepare: 'mkdir /run/ro; touch /run/ro/log; mount --bind /run/ro /run/ro; mount -o remount,ro,bind /run/ro',
    reason: /Read-only file system/,
  },
  {
    name: 'a new log file that may not be made',
    configuration: outputs('1:file:/run/ro/log'),
    prepare: 'mkdir /run/ro; mount --bind /run/ro /run/ro; mount -o remount,ro,bind /run/ro',
    reason: /Read-only file system/,
  },
  {
    name: 'a configuration file that is named and missing',
    args: ['-f', '/none.conf'],
    reason: /Failed to open file '\/none.conf': No such file/,
  },
  { name: 'a configuration file without a name', args: ['-f', ''], reason: /Failed to open file ''/ },
  { name: 'a directory as a configuration file', prepare: `mkdir ${CONFIGURATION}`, reason: /Is a directory/ },
  { name: 'a configuration file that leads nowhere', prepare: `ln -s /none ${CONFIGURATION}` },
  {
    name: 'a configuration file that leads to itself',
    prepare: `ln -s ${CONFIGURATION} ${CONFIGURATION}`,
    reason: /Too many levels/,
  },
  { name: 'an option of ours', args: ['--root', '/'], reason: /says "unrecognized option '--root'"/ },
  { name: 'another option of ours', args: ['--check-state=x'], reason: /says "unrecognized option '--check-state=x'"/ },
  { name: 'an operand', args: ['operand'] },
  { name: 'a timeout', args: ['-t', '30'] },
  { name: 'a timeout that is none', args: ['-t', 'x'], reason: /does not serve with the words/ },
  {
    name: 'a level of the environment',
    env: { LIBVIRT_DEBUG: 'debugging' },
    reason: /argument 'debugging' is invalid/,
  },
  { name: 'filters of the environment', env: { LIBVIRT_LOG_FILTERS: 'x' }, reason: /Malformed format for filter 'x'/ },
  {
    name: 'outputs of the environment',
    env: { LIBVIRT_LOG_OUTPUTS: 'x' },
    reason: /Malformed format for log output 'x'/,
  },
  {
    name: 'outputs of the configuration, whatever the environment says',
    configuration: outputs('x'),
    env: { LIBVIRT_LOG_OUTPUTS: '1:stderr' },
    reason: /Malformed format for log output 'x'/,
  },
  { name: 'a pid file in no directory', args: ['-p', '/none/pid'], reason: /failed to open \/none\/pid: No such file/ },
  { name: 'a directory as a pid file', args: ['-p', '/run'], reason: /the pid file \/run is not the one/ },
  { name: 'no pid file', args: ['-p', ''] },
  { name: 'a pid file elsewhere', args: ['-p', '/run/other.pid'] },
  {
    name: 'a pid file where there is no room for it',
    args: ['-p', '/run/full/pid'],
    prepare:
      'mkdir /run/full; mount -t tmpfs -o size=8k none /run/full; head -c 100000 /dev/zero >/run/full/other || :',
    reason: /No space left/,
  },
  { name: 'a file as the run directory', prepare: 'touch /run/libvirt', reason: /\/run\/libvirt is no directory/ },
  { name: 'a daemon that logs to a file', args: ['-d'] },
  {
    name: 'a daemon without a directory for its log',
    args: ['-d'],
    prepare: 'umount /var/log/libvirt; mv /var/log/libvirt /var/log/gone',
    reason: /failed to open \/var\/log\/libvirt\/virtlockd.log: No such file/,
  },
  {
    name: 'a daemon that needs no directory for its log',
    args: ['-d'],
    configuration: outputs('1:stderr'),
    prepare: 'umount /var/log/libvirt; mv /var/log/libvirt /var/log/gone',
  },
  {
    name: 'a session',
    ordinary: true,
    prepare: `mkdir ${ordinaryUser.runtime}/libvirt; chown ${ordinaryUser.uid} ${ordinaryUser.runtime}/libvirt`,
  },
  {
    name: 'a session whose configuration cannot be read',
    ordinary: true,
    prepare: `mkdir -p ${dirname(SESSION_CONFIGURATION)}; touch ${SESSION_CONFIGURATION}; chmod 0 ${SESSION_CONFIGURATION}`,
    reason: /Permission denied/,
  },
  {
    name: 'a session with a log file of another user',
    ordinary: true,
    env: { LIBVIRT_LOG_OUTPUTS: '1:file:/run/root.log' },
    prepare: 'touch /run/root.log',
    reason: /failed to open \/run\/root.log: Permission denied/,
  },
  {
    name: 'a session with a log file where it may not make one',
    ordinary: true,
    env: { LIBVIRT_LOG_OUTPUTS: '1:file:/run/new.log' },
    reason: /failed to open \/run\/new.log: Permission denied/,
  },
  {
    name: 'a session that may not make the directory of its log',
    ordinary: true,
    args: ['-d'],
    env: { LIBVIRT_LOG_OUTPUTS: '1:stderr' },
    prepare: `mkdir ${ordinaryUser.home}/.cache`,
    reason: /unable to create .*\.cache\/libvirt: Permission denied/,
  },
];

/** So many at a time: a lab takes longer to be made than to be used. */
const AT_ONCE = 4;

describe('what is foreseen of the start of a C daemon', function () {
  this.timeout(300_000);

  for (const generation of generations.filter((one) => one !== '7.0.0')) {
    it(`is what ${generation} does in each of ${situations.length} situations, and changes nothing`, async function () {
      skipIf(this, missingDaemon('ours'), missingDaemon(generation));
      const waiting = [...situations];
      const work = async (): Promise<void> => {
        for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await judge(generation, one);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    });
  }
});

async function judge(generation: Generation, situation: Situation): Promise<void> {
  const { name, reason } = situation;
  const lab = await openLab(generation);
  try {
    await prepare(lab, situation);
    const before = tree(lab);
    const answer = await foreseen(lab, situation);
    assert.deepEqual(tree(lab), before, `${name}: nothing was made or changed`);
    const failure = 'failure' in answer ? answer.failure : undefined;
    if (reason === undefined) assert.equal(failure, undefined, name);
    else assert.match(failure ?? 'it serves', reason, name);
    assert.equal(await serves(lab, generation, situation), reason === undefined, name);
  } finally {
    await lab.close();
  }
}

async function prepare(lab: Lab, { prepare = '', configuration, ordinary }: Situation): Promise<void> {
  if (configuration !== undefined) lab.write(ordinary === true ? SESSION_CONFIGURATION : CONFIGURATION, configuration);
  const { code, stderr } = await lab.run('sh', ['-ec', prepare]);
  assert.equal(code, 0, stderr);
}

/** The answer of our child. */
async function foreseen(lab: Lab, { args = [], env = {}, ordinary }: Situation): Promise<CStartAnswer> {
  const document = join(lab.directory, 'state.json');
  writeFileSync(document, JSON.stringify(EMPTY_STATE));
  const state = `${ordinary === true ? join(ordinaryUser.runtime, 'libvirt') : '/run'}/virtlockd-restart-exec.json`;
  const start: CStart = { args, stateFile: state, document, pidFile: null };
  const words = [process.execPath, join(checkout, 'dist/check-c-start.cjs'), JSON.stringify(start)];
  const answering = ['-c', 'exec "$@" 3>&1 </dev/null', 'sh', ...words];
  const { stdout, stderr } = await lab.run('sh', answering, { env, ordinary: ordinary === true });
  assert.equal(stderr, '');
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as CStartAnswer;
}

/** Whether the C daemon does. */
async function serves(
  lab: Lab,
  generation: Generation,
  { args = [], env = {}, ordinary, waits }: Situation,
): Promise<boolean> {
  if (args.includes('-d')) return (await lab.run(programOf(generation), args, { env, ordinary })).code === 0;
  if (waits === true) {
    const { pid } = lab.spawn(programOf(generation), args, { env, ordinary });
    await eventually('it opens a file, and waits', () =>
      readFileSync(`/proc/${pid}/syscall`, 'latin1').startsWith('257 '),
    );
    return false;
  }
  try {
    await startDaemon(generation, { lab, args, env, ordinary });
    return true;
  } catch (error) {
    assert.match((error as Error).message, /ended with [1-9]/);
    return false;
  }
}

/** All files that a daemon might change. */
function tree(lab: Lab): string[] {
  return ['/run', '/etc/libvirt', '/var/log', ordinaryUser.home].flatMap((directory) => {
    const root = lab.outside(directory);
    return readdirSync(root, { recursive: true, encoding: 'latin1' }).map((name) => {
      const { ino, size, mtimeMs, mode } = lstatSync(join(root, name));
      return [directory, name, ino, size, mtimeMs, mode].join(' ');
    });
  });
}
