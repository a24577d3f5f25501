import assert from 'node:assert/strict';
import { parseOptions, usageText, versionText } from '../../../../src/programs/virtlockd/options.ts';
import type { RunOptions } from '../../../../src/programs/virtlockd/options.ts';

const defaults: RunOptions = {
  daemonize: false,
  verbose: false,
  config: undefined,
  pidFile: undefined,
  timeout: 0,
  root: undefined,
  checkState: undefined,
};

describe('command line', () => {
  const runs: [string[], Partial<RunOptions>][] = [
    [[], {}],
    [['operand', '-', '--', '-x', '--bogus'], {}],
    [['-dv'], { daemonize: true, verbose: true }],
    [['-dvf', 'a', 'b'], { daemonize: true, verbose: true, config: 'a' }],
    [['-fa/b'], { config: 'a/b' }],
    [['--config=a=b'], { config: 'a=b' }],
    [['--c', 'x', 'operand', '--d'], { config: 'x', daemonize: true }],
    [['--config='], { config: '' }],
    [['-f', '--', '-v'], { config: '--', verbose: true }],
    [['-f', 'a', '-f', 'b'], { config: 'b' }],
    [['--p=x', '-px/y'], { pidFile: 'x/y' }],
    [['--root', '/r', '--check-state=/s'], { root: '/r', checkState: '/s' }],
    ...(
      [
        ['5', 5],
        ['5x', 5],
        [' +5', 5],
        ['0x10', 0],
        ['010', 10],
        ['-0', 0],
        ['2147483', 2147483],
      ] as const
    ).map(([text, timeout]): [string[], Partial<RunOptions>] => [['-t', text], { timeout }]),
  ];
  for (const [args, expected] of runs) {
    it(`accepts ${JSON.stringify(args)}`, () => {
      assert.deepEqual(parseOptions(args), { kind: 'run', options: { ...defaults, ...expected } });
    });
  }

  const all = "'--verbose' '--daemon' '--config' '--timeout' '--pid-file' '--version' '--help'";
  const refused: [string[], string][] = [
    [['-x'], "invalid option -- 'x'"],
    [['-dx'], "invalid option -- 'x'"],
    [['-?'], "invalid option -- '?'"],
    [['-f'], "option requires an argument -- 'f'"],
    [['-vt'], "option requires an argument -- 't'"],
    [['--conf'], "option '--config' requires an argument"],
    [['--bogus=x'], "unrecognized option '--bogus=x'"],
    [['--roo', 'x'], "unrecognized option '--roo'"],
    [['--verbose=3'], "option '--verbose' doesn't allow an argument"],
    [['--ver=3'], "option '--ver=3' is ambiguous; possibilities: '--verbose' '--version'"],
    [['--=x'], `option '--=x' is ambiguous; possibilities: ${all}`],
    [['-x', '-V'], "invalid option -- 'x'"],
  ];
  for (const [args, text] of refused) {
    it(`refuses ${JSON.stringify(args)}`, () => {
      assert.deepEqual(parseOptions(args), { kind: 'usage', text });
    });
  }

  for (const text of ['', 'x', '-1', '2147484', '4294967296', '99999999999999999999']) {
    it(`refuses timeout ${JSON.stringify(text)}`, () => {
      assert.deepEqual(parseOptions(['-t', text]), { kind: 'invalid', text: 'Invalid value for timeout' });
    });
  }

  it('lets the first of help, version and a mistake decide', () => {
    assert.deepEqual(parseOptions(['-hV']), { kind: 'help' });
    assert.deepEqual(parseOptions(['-dVx']), { kind: 'version', options: { ...defaults, daemonize: true } });
    assert.deepEqual(parseOptions(['operand', '--h']), { kind: 'help' });
  });

  it('names the program as it was started', () => {
    assert.equal(versionText('./virtlockd', '9.0.0'), './virtlockd (libvirt) 9.0.0\n');
    assert.match(usageText('x/y', true), /^\nUsage:\n {2}x\/y \[options\]\n/);
    assert.match(usageText('x/y', false), /PID file:\n {6}\$XDG_RUNTIME_DIR\/libvirt\/virtlockd\.pid\n/);
  });
});
