import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatFilters, levelFor, parseFilters } from '../../../src/log/filters.ts';
import { matchesGlob } from '../../../src/log/glob.ts';
import { LogSettingError, parseLevel } from '../../../src/log/levels.ts';
import { defaultOutputs, formatOutputs, parseOutputs } from '../../../src/log/output-spec.ts';
import recorded from '../../../fixtures/cli/config-9.0.0.json' with { type: 'json' };

/** The value of a recorded configuration with one string setting; else undefined. */
function setting(text: string, name: string): string | undefined {
  const match = new RegExp(`^${name} = ("""|"|')([^]*)\\1$`).exec(text);
  const [, quote = '', value] = match ?? [];
  return value?.includes(quote) === true ? undefined : value;
}

describe('log filters', () => {
  it('are accepted and refused in the words of C 9.0.0', () => {
    let seen = 0;
    for (const { text, error } of recorded) {
      const filters = setting(text, 'log_filters');
      if (filters === undefined) continue;
      seen++;
      const check = (): unknown => parseFilters(filters);
      if (error?.startsWith('invalid argument: ') === true) {
        assert.throws(check, (thrown) => thrown instanceof LogSettingError && thrown.text === error, text);
      } else {
        assert.doesNotThrow(check, text);
      }
    }
    assert(seen > 25, String(seen));
  });

  it('are given back as C stores them', () => {
    const back = (text: string): string => formatFilters(parseFilters(text));
    assert.equal(back('3:rpc'), '3:*rpc* ');
    assert.equal(back(' 1:a  +2:+c 03:*x* 1:a '), '1:*a* 2:*c* 3:**x** 1:*a* ');
    assert.equal(back(''), '');
    assert.equal(back('1:a:b 2:c:'), '1:*a* 2:*c* ');
    assert.throws(() => parseFilters('1:a:b', true), /Malformed format for filter '1:a:b'/);
  });

  it('let the first that matches decide', () => {
    const filters = parseFilters('1:rpc 4:util 2:rpc.net 3:lock?ng.[!d]');
    assert.equal(levelFor('rpc.netserver', filters, 3), 1);
    assert.equal(levelFor('util.lockspace', filters, 3), 4);
    assert.equal(levelFor('locking.lock_daemon', filters, 2), 3);
    assert.equal(levelFor('daemon', filters, 2), 2);
  });

  it('match as fnmatch does, any pattern, without taking for ever', () => {
    assert(matchesGlob('a.b', '*a.b*'));
    assert(!matchesGlob('aXb', '*a.b*'));
    assert(matchesGlob('a]b', '*[]]*'));
    assert(matchesGlob('a^b', 'a\\^b'));
    assert(matchesGlob('a-b', 'a[x-]b'));
    assert(!matchesGlob('b', '[z-a]'));
    assert(matchesGlob('[', '*[*'));
    assert(matchesGlob('[]', '[]'));
    assert(matchesGlob('abcbcd', 'a*bcd'));
    assert(matchesGlob('b', '[!a-]') && !matchesGlob('-', '[!a-]') && matchesGlob('m', '[a-z0]'));
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (pattern, name) => {
        assert.equal(typeof matchesGlob(name, `*${pattern}*`), 'boolean');
        const quoted = name.replace(/[^A-Za-z0-9]/g, '\\$&');
        assert(matchesGlob(name, `*${quoted}*`), name);
      }),
    );
    for (const hostile of ['*', '*?', '*[a-z]', '*lock', 'l*o*', '\\']) {
      matchesGlob('locking.lock_daemon'.repeat(2), hostile.repeat(1e5));
      matchesGlob('locking.lock_daemon'.repeat(2), `${hostile.repeat(12)}!`);
    }
  });
});

describe('log outputs', () => {
  it('are accepted and refused in the words of C 9.0.0', () => {
    let seen = 0;
    for (const { text, error } of recorded) {
      const outputs = setting(text, 'log_outputs');
      // This does not open files.
      if (outputs === undefined || error?.startsWith('failed to open') === true) continue;
      seen++;
      const parsed = parseOutputs(outputs, 'log output', '/');
      const expected = error?.startsWith('invalid argument: ') === true ? error.slice(18) : undefined;
      if (error?.includes('unterminated') !== true) assert.equal(parsed.error, expected, text);
    }
    assert(seen > 25, String(seen));
  });

  it('are called differently by 7.0.0', () => {
    const complaint = (text: string): string | undefined => parseOutputs(text, 'output', '/').error;
    assert.equal(complaint('bogus'), "Malformed format for output 'bogus'");
    assert.equal(complaint('x:stderr'), "Invalid priority 'x' for output 'x:stderr'");
    assert.equal(complaint('1:bogus'), "Invalid destination 'bogus' for output '1:bogus'");
    assert.equal(
      complaint('1:file'),
      "Output '1:file' does not meet the format requirements for destination type 'file'",
    );
  });

  it('are given back with absolute paths', () => {
    const back = (text: string): string => formatOutputs(parseOutputs(text, 'log output', '/w/d').outputs);
    assert.equal(back(' +1:file:x/../y  03:stderr '), '1:file:/w/d/y 3:stderr');
    assert.equal(back('1:file:/run/../run//./a'), '1:file:/run/a');
    assert.equal(back('1:file://run/x 1:file:///run/x/'), '1:file://run/x 1:file:/run/x');
    assert.equal(back('1:file:'), '1:file:/w/d');
    assert.equal(back('1:syslog: 2:journald'), '1:syslog: 2:journald');
  });

  it('are given back by 7.0.0 as they came, behind the directory when relative', () => {
    const back = (text: string): string => formatOutputs(parseOutputs(text, 'output', '/w').outputs);
    assert.equal(back('1:file:x/../y 2:file:./x'), '1:file:/w/x/../y 2:file:/w/./x');
    assert.equal(back('1:file:/run//../x'), '1:file:/run//../x');
  });

  it('stop at the first mistake, which leaves those before it', () => {
    const { outputs, error } = parseOutputs('1:file:/nonexistent/x 9:stderr 2:stderr', 'log output', '/');
    assert.equal(outputs.length, 1);
    assert.equal(error, "Invalid log priority '9' for log output '9:stderr'");
  });

  it('have a default that depends on how the daemon was started', () => {
    const input = { level: 2, daemonized: false, journal: false, stdinIsTerminal: false, logFile: '/l' } as const;
    assert.equal(defaultOutputs(input), '2:stderr');
    assert.equal(defaultOutputs({ ...input, journal: true }), '2:journald');
    assert.equal(defaultOutputs({ ...input, journal: true, stdinIsTerminal: true }), '2:stderr');
    assert.equal(defaultOutputs({ ...input, daemonized: true }), '2:file:/l');
    assert.equal(defaultOutputs({ ...input, daemonized: true, journal: true, stdinIsTerminal: true }), '2:journald');
  });
});

describe('log level', () => {
  it('has a number and a name', () => {
    assert.deepEqual(['1', '2', '3', '4'].map(parseLevel), [1, 2, 3, 4]);
    assert.deepEqual(['debug', 'info', 'warning', 'error'].map(parseLevel), [1, 2, 3, 4]);
    for (const text of ['0', '5', 'x', 'DEBUG', 'warn', '1x', '-1', '']) {
      assert.throws(() => parseLevel(text), {
        message: `Failed to set logging priority, argument '${text}' is invalid`,
      });
    }
  });
});
