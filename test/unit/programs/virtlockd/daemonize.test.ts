import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { absoluteArguments, startDaemon, takeStartReport } from '../../../../src/programs/virtlockd/daemonize.ts';
import { parseOptions } from '../../../../src/programs/virtlockd/options.ts';

describe('-d', () => {
  let directory = '';
  before(() => {
    directory = mkdtempSync(join(os.tmpdir(), 'virtlockd-d-'));
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  const started = { environment: process.env, directory: '/from/here', argv0: 'x', print: () => undefined } as const;

  /** Starts a shell script as if it were the daemon. */
  async function start(script: string): Promise<{ code: number; printed: string; told: string }> {
    const program = join(directory, 'program');
    const told = join(directory, 'told');
    writeFileSync(
      program,
      `#!/bin/sh\n{ echo "$VIRTLOCKD_DAEMON_STATUS|$(pwd)|$*"; ps -o sid= -p $$; } >${told}\n${script}\n`,
    );
    chmodSync(program, 0o755);
    let printed = '';
    const print = (text: string): void => {
      printed += text;
    };
    const code = await startDaemon({ ...started, words: [program, '-d', 'x'], argv0: './argv0', print });
    return { code, printed, told: readFileSync(told, 'latin1') };
  }

  it('ends well when the child serves, which lives on in a session of its own below /', async () => {
    const { code, printed, told } = await start('echo 0 >&3; exec 3>&-; exec sleep 0.1');
    assert.equal(code, 0);
    assert.equal(printed, '');
    const [line = '', session = ''] = told.split('\n');
    assert.equal(line, '3:/from/here|/|-d x');
    assert.notEqual(Number(session), 0);
  });

  const failures: [string, string][] = [
    ['echo 1 >&3; exit 1', 'Unable to obtain pidfile'],
    ['echo 2 >&3; exit 2', 'Unable to create rundir'],
    ['echo 3 >&3; exit 3', 'Unable to initialize libvirt'],
    ['echo 4 >&3; exit 4', 'Unable to setup signal handlers'],
    ['echo 6 >&3; exit 6', 'Unable to initialize network sockets'],
    ['exit 6', 'Unable to initialize network sockets'],
    ['exit 0', 'Unable to initialize libvirt'],
    ['kill -9 $$', 'Unable to initialize libvirt'],
  ];
  for (const [script, text] of failures) {
    it(`reports: ${script}`, async () => {
      const { code, printed } = await start(script);
      assert.equal(code, 1);
      assert.equal(
        printed,
        `./argv0: error: ${text}. Check /var/log/messages or run without --daemon for more info.\n`,
      );
    });
  }

  it('reports a program that cannot be started', async () => {
    assert.equal(await startDaemon({ ...started, words: [join(directory, 'missing')] }), 1);
  });

  it('tells the child by a variable that it removes', () => {
    const environment: Record<string, string | undefined> = { VIRTLOCKD_DAEMON_STATUS: '3:/a:b', KEPT: 'x' };
    assert.equal(takeStartReport(environment)?.directory, '/a:b');
    assert.deepEqual(environment, { KEPT: 'x' });
    assert.equal(takeStartReport(environment), undefined);
    assert.equal(takeStartReport({ VIRTLOCKD_DAEMON_STATUS: 'x' }), undefined);
    assert.equal(takeStartReport({ VIRTLOCKD_DAEMON_STATUS: '3:' })?.directory, null);
  });

  it('makes relative paths absolute, as the working directory changes', () => {
    const words = (args: string[], from: string | null = '/w'): string[] => {
      const parsed = parseOptions(args);
      assert(parsed.kind === 'run');
      return absoluteArguments(parsed.options, args, from);
    };
    assert.deepEqual(words(['-dv', '-f/a', 'operand']), ['-dv', '-f/a', 'operand']);
    assert.deepEqual(words(['-dvf', 'a', '-t5']), ['--daemon', '--verbose', '--config', '/w/a', '--timeout', '5']);
    assert.deepEqual(words(['-d', '-p', 'a', '--root=r']), ['--daemon', '--root', '/w/r', '--pid-file', '/a']);
    assert.deepEqual(words(['-d', '-p', '']), ['--daemon', '--pid-file', '']);
    assert.deepEqual(words(['-p', 'a']), ['--pid-file', '/w/a']);
    assert.deepEqual(words(['-f', 'a'], null), ['--config', 'a']);
  });
});
