import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { Logger } from '../../../src/log/log.ts';
import { PLAIN_FILES } from '../../../src/log/log.ts';
import { Logging } from '../../../src/log/logging.ts';
import { LogSettingError } from '../../../src/log/levels.ts';
import { setUpLogging } from '../../../src/log/setup.ts';
import type { LogSetup } from '../../../src/log/setup.ts';

const time = new Date(Date.UTC(2026, 10, 2, 14, 51, 6, 101));
const opening = ['info : libvirt version: 12.8.0', 'info : hostname: h, uid: 7'];

interface Datagram {
  path: string;
  data: string;
}

function setUp(largest = Infinity): { logging: Logging; sent: Datagram[] } {
  const sent: Datagram[] = [];
  const logging = new Logging({
    host: {
      pid: 42,
      identifier: 'virtlockd',
      journalSocket: '/journal',
      syslogSocket: '/syslog',
      sendDatagram: (path, data) => {
        if (data.length > largest) return -os.constants.errno.EMSGSIZE;
        sent.push({ path, data: data.toString('latin1') });
        return 0;
      },
      files: PLAIN_FILES,
      isServing: false,
      strerror: (errno) => (errno === os.constants.errno.ENOENT ? 'No such file or directory' : `errno ${errno}`),
    },
    hostname: 'h',
    uid: 7,
    now: () => time,
  });
  return { logging, sent };
}

describe('log', () => {
  let directory = '';
  before(() => {
    directory = mkdtempSync(join(os.tmpdir(), 'virtlockd-log-'));
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  /** The lines of a file, without time, pid and line number of the caller. */
  const lines = (file: string): string[] =>
    readFileSync(file, 'latin1')
      .split('\n')
      .slice(0, -1)
      .map((line) => {
        assert.match(line, /^2026-11-02 14:51:06\.101\+0000: 42: /);
        return line.slice(34).replace(/:[0-9]+ : /, ':N : ');
      });

  it('writes lines in the form of libvirt, with the caller, from the level on', () => {
    const { logging } = setUp();
    const file = join(directory, 'lines');
    logging.setOutputs(`1:file:${file}`);
    const log = new Logger('rpc.x', logging);
    function someFunction(): void {
      log.debug(() => assert.fail('is not to be made'));
      log.info('not this');
      log.warn('this');
      log.error(() => 'and this');
    }
    someFunction();
    assert.deepEqual(lines(file), [...opening, 'warning : someFunction:N : this', 'error : someFunction:N : and this']);
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  it('shows control bytes, so that a name cannot forge a line', () => {
    const { logging } = setUp();
    const file = join(directory, 'forged');
    logging.setOutputs(`1:file:${file}`);
    new Logger('x', logging).error('a\nb\x1b[31m\0\x7f\xff');
    assert.match(readFileSync(file, 'latin1'), / : a\\nb\\x1b\[31m\\x00\\x7f\xff\n$/);
  });

  it('heeds filters for its sources, also those that came later', () => {
    const { logging } = setUp();
    const file = join(directory, 'filtered');
    logging.setOutputs(`1:file:${file}`);
    const loud = new Logger('rpc.netserver', logging);
    logging.setFilters('1:rpc 4:util');
    const quiet = new Logger('util.lockspace', logging);
    function say(): void {
      loud.debug('heard');
      quiet.warn('not heard');
      quiet.error('heard too');
    }
    say();
    logging.setFilters('');
    loud.debug('no more');
    assert.deepEqual(lines(file), [...opening, 'debug : say:N : heard', 'error : say:N : heard too']);
  });

  it('heeds the level of each output', () => {
    const { logging } = setUp();
    const [all, errors] = [join(directory, 'all'), join(directory, 'errors')];
    logging.setOutputs(`1:file:${all} 4:file:${errors}`);
    const log = new Logger('x', logging);
    log.warn('w');
    assert.equal(readFileSync(errors, 'latin1'), '');
    log.error('e');
    assert.equal(lines(all).length, 4);
    assert.equal(lines(errors).length, 3);
    logging.setOutputs(`4:file:${errors}`);
    assert.equal(log.threshold, 4, 'what no output takes is not even made');
  });

  it('goes on writing a renamed file until it is set again', () => {
    const { logging } = setUp();
    const file = join(directory, 'rotated');
    logging.setOutputs(`1:file:${file}`);
    const log = new Logger('x', logging);
    log.error('one');
    renameSync(file, `${file}.1`);
    log.error('two');
    assert.equal(lines(`${file}.1`).length, 4);
    logging.setOutputs(logging.outputs.text);
    log.error('three');
    assert.equal(lines(file).length, 3);
    assert.equal(lines(`${file}.1`).length, 4);
  });

  it('refuses a change as a whole', () => {
    const { logging } = setUp();
    const file = join(directory, 'kept');
    logging.setOutputs(`1:file:${file}`);
    logging.setFilters('1:rpc');
    const before = logging.state;
    const missing = join(directory, 'no/such');
    assert.throws(
      () => {
        logging.setOutputs(`2:stderr 3:file:${missing} bogus`);
      },
      { text: `failed to open ${missing}: No such file or directory`, errno: os.constants.errno.ENOENT },
    );
    assert.throws(() => {
      logging.setOutputs(`2:file:${file}.new bogus`);
    }, LogSettingError);
    assert.throws(() => {
      logging.setFilters('2:x bogus');
    }, LogSettingError);
    assert.throws(() => {
      logging.apply({ level: 2, filters: '2:a', outputs: 'bogus' });
    }, LogSettingError);
    assert.deepEqual(logging.state, before);
    new Logger('x', logging).error('still here');
    assert.equal(lines(file).length, 3);
  });

  it('counts two outputs to one place once, the later one where it stands', () => {
    const { logging } = setUp();
    const [a, b] = [join(directory, 'a'), join(directory, 'b')];
    logging.setOutputs(`4:stderr 3:file:${a} 2:stderr 1:file:${b} 4:file:${a} 4:syslog:x 3:syslog:y 2:syslog:x`);
    assert.deepEqual(logging.outputs, { text: `2:stderr 1:file:${b} 4:file:${a} 3:syslog:y 2:syslog:x`, count: 5 });
    logging.setOutputs(`3:file:${a} 4:file:${a}`);
    new Logger('x', logging).error('once');
    assert.equal(lines(a).length, 3);
  });

  it('returns to the default when set to nothing', () => {
    const { logging } = setUp();
    logging.defaultOutput = '2:journald';
    logging.setOutputs('1:stderr');
    logging.setOutputs('');
    assert.deepEqual(logging.outputs, { text: '2:journald', count: 1 });
    logging.setFilters('');
    assert.deepEqual(logging.filters, { text: '', count: 0 });
  });

  it('goes nowhere when set to blanks', () => {
    const { logging } = setUp();
    logging.setOutputs('  ');
    assert.deepEqual(logging.outputs, { text: '', count: 0 });
    new Logger('x', logging).error('lost');
    logging.apply(logging.state);
    assert.deepEqual(logging.outputs, { text: '', count: 0 });
  });

  it('travels as text', () => {
    const { logging } = setUp();
    logging.apply({ level: 2, filters: '3:rpc 1:+util', outputs: '1:syslog:x 4:journald' });
    const { logging: successor } = setUp();
    successor.apply(logging.state);
    assert.deepEqual(successor.state, logging.state);
    assert.equal(successor.filters.text, '3:*rpc* 1:*util* ');
    assert.equal(successor.outputs.text, '1:syslog:x 4:journald');
    assert.equal(new Logger('util.x', successor).threshold, 1);
  });

  it('sends syslog what syslog(3) sends', () => {
    const { logging, sent } = setUp();
    logging.setOutputs('1:syslog:my%did');
    logging.version = { text: '9.0.0', number: 9_000_000 };
    function f(): void {
      new Logger('x', logging).error('text');
    }
    f();
    const clock = time.toTimeString().slice(0, 8);
    const day = String(time.getDate()).padStart(2);
    assert.deepEqual(
      sent.map(({ path, data }) => [path, data.replace(/f:[0-9]+/, 'f:1')]),
      [
        `<30>Nov ${day} ${clock} my%did: 42: info : libvirt version: 9.0.0\n`,
        `<30>Nov ${day} ${clock} my%did: 42: info : hostname: h\n`,
        `<27>Nov ${day} ${clock} my%did: 42: error : f:1 : text\n`,
      ].map((data) => ['/syslog', data]),
    );
  });

  it('sends journald the fields that libvirt sends', () => {
    const { logging, sent } = setUp();
    logging.setOutputs('1:journald');
    function f(): void {
      new Logger('rpc.x', logging).error('text', { domain: 7, code: 39 });
    }
    f();
    assert.equal(sent.length, 3);
    assert.equal(
      sent[2]?.data.replace(/LINE=[0-9]+/, 'LINE=1').replace(/FILE=.*/, 'FILE=f'),
      'MESSAGE=text\nPRIORITY=3\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=virtlockd\nLIBVIRT_SOURCE=rpc.x\n' +
        'CODE_FILE=f\nCODE_LINE=1\nCODE_FUNC=f\nLIBVIRT_DOMAIN=7\nLIBVIRT_CODE=39\n',
    );
    assert.match(sent[0]?.data ?? '', /^MESSAGE=libvirt version: 12\.8\.0\nPRIORITY=6\n/);
  });

  it('cuts what is too large for a datagram', () => {
    const { logging, sent } = setUp(8192);
    logging.setOutputs('1:syslog:x');
    new Logger('x', logging).error('z'.repeat(10000));
    assert.match(sent[2]?.data ?? '', / : z{4096}\.\.\. \(10000 bytes\)\n$/);
  });
});

describe('log at start', () => {
  const base: LogSetup = {
    verbose: false,
    config: { logLevel: undefined, logFilters: undefined, logOutputs: undefined },
    environment: {},
    daemonized: false,
    journal: false,
    stdinIsTerminal: false,
    logFile: '/log',
  };
  const result = (change: Partial<LogSetup>): string => {
    const { logging } = setUp();
    setUpLogging(logging, { ...base, ...change });
    return `${logging.defaultLevel}|${logging.filters.text}|${logging.outputs.text}`;
  };
  const config = { logLevel: 4, logFilters: '4:conf', logOutputs: '4:syslog:conf' };
  const environment = { LIBVIRT_DEBUG: 'error', LIBVIRT_LOG_FILTERS: '1:env', LIBVIRT_LOG_OUTPUTS: '1:syslog:env' };

  it('prefers the command line to the environment, and that to the configuration', () => {
    assert.equal(result({}), '3||3:stderr');
    assert.equal(result({ verbose: true }), '2||2:stderr');
    assert.equal(result({ config }), '4|4:*conf* |4:syslog:conf');
    assert.equal(result({ config, environment }), '4|1:*env* |1:syslog:env');
    assert.equal(result({ config, environment, verbose: true }), '2|1:*env* |1:syslog:env');
    assert.equal(result({ environment: { LIBVIRT_DEBUG: '1' }, verbose: true }), '1||1:stderr');
    assert.equal(result({ config, environment: { LIBVIRT_DEBUG: '', LIBVIRT_LOG_FILTERS: '' } }), result({ config }));
    assert.equal(result({ config: { ...config, logOutputs: '  ' } }), '4|4:*conf* |4:stderr');
  });

  it('reports the mistake that C finds first', () => {
    const bad = { logLevel: 5, logFilters: 'x', logOutputs: 'y' };
    const badEnvironment = { LIBVIRT_DEBUG: 'z', LIBVIRT_LOG_FILTERS: 'f' };
    const text = (change: Partial<LogSetup>): RegExp | string => {
      try {
        return result(change);
      } catch (error) {
        return (error as LogSettingError).text;
      }
    };
    assert.match(String(text({ config: bad })), /argument '5'/);
    assert.match(String(text({ config: { ...bad, logLevel: 1 } })), /filter 'x'/);
    assert.match(String(text({ config: { ...bad, logLevel: 1, logFilters: undefined } })), /log output 'y'/);
    assert.match(String(text({ environment: badEnvironment })), /argument 'z'/);
  });
});
