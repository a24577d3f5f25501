import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { ConfigError, DEFAULT_CONFIG, loadConfig, parseConfig } from '../../../../src/programs/virtlockd/config.ts';
import { DEFAULT_ETCD } from '../../../../src/etcd/settings.ts';
import { parseConfigEntries } from '../../../../src/programs/virtlockd/config-grammar.ts';
import recorded from '../../../../fixtures/cli/config-9.0.0.json' with { type: 'json' };

/** The complaint about a text, or null. */
function complaint(text: string): string | null {
  try {
    parseConfig(text, 'FILE');
    return null;
  } catch (error) {
    assert(error instanceof ConfigError, String(error));
    return `Can't load config file: ${error.message}: FILE`;
  }
}

describe('virtlockd.conf', () => {
  it('is accepted and refused in the words of C 9.0.0', () => {
    for (const { text, error } of recorded) {
      // A number beyond 64 bits is an error since 11.3.0; 9.0.0 took the lower bits of it.
      if (/[0-9]{19}/.test(text) || text.startsWith('libvirt_version')) continue;
      const expected = error?.startsWith("Can't load") === true ? error : null;
      assert.equal(complaint(text), expected, JSON.stringify(text));
    }
  });

  it('refuses a number beyond 64 bits as 11.3.0 and 12.8.0 do', () => {
    const text = `Can't load config file: numerical overflow: FILE:2: numeric overflow in conf value: FILE`;
    assert.equal(complaint('\na = 9223372036854775808'), text);
    assert.equal(complaint('\nmax_clients = 18446744073709551617'), text);
    assert.equal(complaint('a = 9223372036854775807'), null);
  });

  it('has defaults for everything', () => {
    assert.deepEqual(parseConfig('', 'FILE'), DEFAULT_CONFIG);
    assert.deepEqual(parseConfig('log_level = 0\nlog_filters = ""\nlog_outputs = \'\'', 'FILE'), DEFAULT_CONFIG);
  });

  it('gives back what is set, the first of two', () => {
    const text = [
      'max_clients = 5 ; max_clients = 6',
      'admin_max_clients = 010 # ten',
      'log_level=2\r',
      'log_filters = """1:a\n2:b"""',
      "log_outputs = '1:stderr'",
      'libvirt_version = "9.0.0"',
      'lock_confirm_interval = 0',
      'lost_locks = "end"',
    ].join('\n');
    assert.deepEqual(parseConfig(text, 'FILE'), {
      maxClients: 5,
      adminMaxClients: 10,
      logLevel: 2,
      logFilters: '1:a\n2:b',
      logOutputs: '1:stderr',
      libvirtVersion: '9.0.0',
      lockConfirmInterval: 0,
      lostLocks: 'end',
      etcd: null,
    });
  });

  it('keeps no lockspace in etcd without endpoints', () => {
    assert.equal(parseConfig('etcd_lease_seconds = 60\netcd_fence = "reboot"', 'FILE').etcd, null);
    assert.deepEqual(parseConfig('etcd_endpoints = "http://one:2379"', 'FILE').etcd, {
      ...DEFAULT_ETCD,
      endpoints: ['http://one:2379'],
    });
    const text = `etcd_endpoints = [ "https://one:2379", "https://two:2379/" ]
etcd_lockspaces = [ "/srv//locks/", "/var/./x" ]
etcd_prefix = "/site/locks"
etcd_lease_seconds = 2
etcd_ca_file = "/ca"
etcd_cert_file = "/cert"
etcd_key_file = "/key"
etcd_user = "lock"
etcd_password_file = "/word"
etcd_fence = "reboot"
etcd_watchdog = "/dev/watchdog0"
`;
    assert.deepEqual(parseConfig(text, 'FILE').etcd, {
      endpoints: ['https://one:2379', 'https://two:2379/'],
      lockspaces: ['/srv/locks', '/var/x'],
      prefix: '/site/locks',
      leaseSeconds: 2,
      caFile: '/ca',
      certFile: '/cert',
      keyFile: '/key',
      user: 'lock',
      password: '',
      passwordFile: '/word',
      fence: 'reboot',
      watchdog: '/dev/watchdog0',
    });
  });

  it('checks the settings of etcd, also while there are no endpoints', () => {
    for (const [text, expected] of [
      ['etcd_endpoints = [ 1 ]', /expected a list of strings for 'etcd_endpoints' parameter/],
      ['etcd_endpoints = [ "one:2379" ]', /'one:2379' must begin with http/],
      ['etcd_endpoints = [ "etcd" ]', /'etcd' is no URL/],
      ['etcd_endpoints = [ "http://one:2379/v3" ]', /must end with host or port/],
      ['etcd_endpoints = [ "http://a:b@one:2379" ]', /'http:\/\/one:2379' must have no user/],
      ['etcd_lockspaces = [ ]', /names no directory/],
      ['etcd_lockspaces = [ "locks" ]', /'locks' is no absolute path/],
      ['etcd_lockspaces = [ "/." ]', /would be every lockspace/],
      ['etcd_prefix = "virtlockd"', /must begin with a slash/],
      ['etcd_prefix = "/a//b"', /have no two in a row/],
      ['etcd_prefix = "/"', /etcd_prefix/],
      ['etcd_lease_seconds = 1', /value for 'etcd_lease_seconds' parameter must be in range 2:3600/],
      ['etcd_lease_seconds = -5', /expected an unsigned integer for 'etcd_lease_seconds' parameter/],
      ['etcd_cert_file = "/cert"', /etcd_cert_file and etcd_key_file belong together/],
      ['etcd_user = "lock"', /etcd_user needs etcd_password_file or etcd_password/],
      ['etcd_password = "word"', /a password for etcd needs etcd_user/],
      ['etcd_user="a"\netcd_password="b"\netcd_password_file="/c"', /are both set/],
      ['etcd_watchdog = "watchdog0"', /'watchdog0' is neither "none" nor the path of a device/],
      ['etcd_fence = "halt"', /expected "kill" or "reboot" for 'etcd_fence' parameter/],
    ] as const) {
      assert.match(complaint(text) ?? '', expected, text);
    }
  });

  it('has two words for what becomes of lost locks, and a day at most between two questions', () => {
    assert.equal(parseConfig('lost_locks = "report"', 'FILE').lostLocks, 'report');
    for (const value of ['""', '"kill"', '"END"', '1', '["end"]']) {
      const text = complaint(`lost_locks = ${value}`) ?? '';
      assert.match(text, /expected ("report" or "end"|a string) for 'lost_locks' parameter/, value);
    }
    assert.equal(parseConfig('lock_confirm_interval = 86400', 'FILE').lockConfirmInterval, 86_400);
    for (const [value, expected] of [
      ['86401', /value for 'lock_confirm_interval' parameter must be in range 0:86400/],
      ['-1', /expected an unsigned integer for 'lock_confirm_interval' parameter/],
      ['"30"', /expected an unsigned integer for 'lock_confirm_interval' parameter/],
    ] as const) {
      assert.match(complaint(`lock_confirm_interval = ${value}`) ?? '', expected);
    }
  });

  it('checks its own setting', () => {
    for (const value of ['9', '"9"', '"9.0"', '"9.0.0.0"', '"9.x.0"', '["9.0.0"]', '"1000.0.0"']) {
      assert.match(complaint(`libvirt_version = ${value}`) ?? '', /libvirt_version/, value);
    }
  });

  it('keeps bytes as they are', () => {
    assert.equal(parseConfig('log_filters = "1:\xff\xe9\\n"', 'FILE').logFilters, '1:\xff\xe9\\n');
  });

  it('does not overflow its stack', () => {
    assert.match(complaint(`a = ${'['.repeat(1e6)}`) ?? '', /expecting a value/);
  });

  it('either accepts or refuses any text, and a refusal names a line of it', () => {
    const pieces = ['a', '=', ' ', '\n', '\r', '"', "'", '"""', '[', ']', ',', '#', ';', '5', '-', '+', '\0', '\xff'];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 40 }), (parts) => {
        const text = parts.join('');
        try {
          parseConfigEntries(text, 'F');
        } catch (error) {
          assert(error instanceof ConfigError);
          const line = Number(/F:([0-9]+): /.exec(error.message)?.[1]);
          assert(line >= 1 && line <= text.split('\n').length, error.message);
        }
      }),
      { numRuns: 2000 },
    );
  });

  describe('file', () => {
    let directory = '';
    before(() => {
      directory = mkdtempSync(join(tmpdir(), 'virtlockd-config-'));
    });
    after(() => {
      rmSync(directory, { recursive: true });
    });

    const refuses = (file: string, text: string): void => {
      assert.throws(() => loadConfig(file, true), {
        name: 'ConfigError',
        message: `Can't load config file: ${text}: ${file}`,
      });
    };

    it('may be missing, but not when it was asked for', () => {
      const file = join(directory, 'missing');
      assert.deepEqual(loadConfig(file, false), DEFAULT_CONFIG);
      refuses(file, `Failed to open file '${file}': No such file or directory`);
      refuses('', `Failed to open file '': No such file or directory`);
    });

    it('must be readable', () => {
      refuses(directory, `Failed to read file '${directory}': Is a directory`);
      assert.throws(() => loadConfig(directory, false), ConfigError);
    });

    it('is loaded', () => {
      const file = join(directory, 'conf');
      writeFileSync(file, 'max_clients = 7\n');
      assert.equal(loadConfig(file, true).maxClients, 7);
      writeFileSync(file, 'x');
      refuses(file, `configuration file syntax error: ${file}:1: expecting an assignment`);
    });
  });
});
