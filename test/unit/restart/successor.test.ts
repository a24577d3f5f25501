import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { formatDocument } from '../../../src/restart/document.ts';
import { parseDocument } from '../../../src/restart/parse.ts';
import { proveSuccessor, type Successor, timeFor, UnfitSuccessor } from '../../../src/restart/successor.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { temporaryDirectory } from '../support/locks.ts';
import { LogRecorder } from '../support/log.ts';
import { plainDocument } from './documents.ts';

const said = (outcome: Successor | string): string => (typeof outcome === 'string' ? outcome : JSON.stringify(outcome));

describe('the proof of a successor', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let program: string;
  let state: string;
  const document = formatDocument(parseDocument(plainDocument()));

  beforeEach(() => {
    directory = temporaryDirectory();
    program = path.join(directory.path, 'program');
    state = path.join(directory.path, 'state');
    writeFileSync(state, document);
  });
  afterEach(() => {
    directory.remove();
  });

  async function prove(text: string | Buffer, mode = 0o755): Promise<Successor | string> {
    writeFileSync(program, text);
    chmodSync(program, mode);
    return outcome(program);
  }

  async function outcome(at: string, limit = 5000, longest = limit): Promise<Successor | string> {
    try {
      return await proveSuccessor(at, state, { limit, longest });
    } catch (error) {
      if (error instanceof UnfitSuccessor) return error.message.replace(at, 'PROGRAM');
      throw error;
    }
  }

  /** A program that answers as a C daemon does. */
  const c = (version: string): string =>
    `#!/bin/sh\n[ "$1" = --version ] && { echo "virtlockd (libvirt) ${version}"; exit 0; }\necho "unrecognized option" >&2\nexit 1\n`;
  /** A program that answers --check-state so. */
  const own = (lines: string, status: number): string =>
    `#!/bin/sh\n[ "$1" = --check-state ] || exit 9\nprintf 'virtlockd state document check 1\\n${lines}'\nexit ${status}\n`;

  it('accepts our own program, which reads the very document', async () => {
    const successor = await outcome(path.join(checkout, 'bin/virtlockd'));
    assert.ok(typeof successor === 'object' && successor.kind === 'own');
    const [launch, node = '', ...words] = successor.command;
    assert.equal(launch, path.join(checkout, 'dist/launch'));
    assert.equal(path.basename(node), 'node');
    const flags = ['--disable-sigusr1', '--no-rehash-snapshot', '--min-semi-space-size=2', '--max-semi-space-size=2'];
    assert.deepEqual(words, [...flags, path.join(checkout, 'dist/start.cjs')]);
  });

  it('refuses our own program when it cannot read the document, and says why', async () => {
    writeFileSync(state, '{"magic":"1"}');
    assert.match(said(await outcome(path.join(checkout, 'bin/virtlockd'))), /cannot go on: .*missing/);
  });

  it('hears what a program of our kind says', async () => {
    assert.deepEqual(await prove(own('["/bin/node","start"]\\n', 0)), { kind: 'own', command: ['/bin/node', 'start'] });
    assert.equal(await prove(own('', 0)), 'PROGRAM cannot go on: exited with 0');
    assert.equal(await prove(own('a reason\\n', 3)), 'PROGRAM cannot go on: a reason');
    assert.equal(await prove(own('', 3)), 'PROGRAM cannot go on: exited with 3');
  });

  it('knows a C daemon by its version', async () => {
    for (const version of ['9.0.0', '11.3.0', '12.8.0', '99.0.0']) {
      assert.deepEqual(await prove(c(version)), { kind: 'c', version });
    }
  });

  describe('of our kind that could not be read at first', () => {
    /** Fails the first `failures` times that it is to read the state, as the runtime does. */
    const failing = (failures: number, banner: string): string => `#!/bin/sh
if [ "$1" = --version ]; then printf '${banner}virtlockd (libvirt) 12.8.0\\n'; exit 0; fi
echo >>${state}.calls
[ "$(wc -l <${state}.calls)" -gt ${failures} ] || exit 1
printf 'virtlockd state document check 1\\n["/bin/node"]\\n'
`;
    const ours = { kind: 'own', command: ['/bin/node'] };

    for (const [release, banner] of [
      ['this release', 'virtlockd state document check 1\\n'],
      ['a release that does not say so', ''],
    ] as const) {
      it(`goes on with it when it can be read the next time: ${release}`, async () => {
        assert.deepEqual(await prove(failing(1, banner)), ours);
      });
    }

    it('is refused when it cannot be read the next time either, and is no C daemon', async () => {
      const text = failing(2, 'virtlockd state document check 1\\n');
      assert.equal(await prove(text), 'PROGRAM cannot go on: exited with 1 before it had read the state');
    });

    it('is no C daemon when it then ends otherwise than a C daemon does', async () => {
      const end = `{ [ "$(wc -l <${state}.calls)" = 1 ] && exit 1; kill -9 $$; }`;
      const text = failing(2, '').replace('exit 1', () => end);
      assert.equal(await prove(text), 'PROGRAM was ended by SIGKILL, and its kind is not known');
    });

    it('says what it is with its version, to the daemon that asks and to nobody else', () => {
      const virtlockd = path.join(checkout, 'bin/virtlockd');
      const version = (environment: NodeJS.ProcessEnv): string =>
        execFileSync(virtlockd, ['--version'], { encoding: 'utf8', env: { ...process.env, ...environment } });
      const answer = version({});
      assert.match(answer, /^\S+ \(libvirt\) 12\.8\.0\n$/);
      assert.equal(version({ VIRTLOCKD_CHECK_REPORT: '1' }), `virtlockd state document check 1\n${answer}`);
    });
  });

  it('refuses what is missing, not executable, a directory, or no program', async () => {
    assert.match(said(await outcome(path.join(directory.path, 'missing'))), /cannot be executed: .*ENOENT/);
    assert.match(said(await prove(c('9.0.0'), 0o644)), /cannot be executed: .*EACCES/);
    assert.match(said(await outcome(directory.path)), /cannot be executed: .*EACCES/);
    assert.match(
      said(await prove(Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1]))),
      /cannot be executed: .*|is no virtlockd/,
    );
    assert.match(said(await prove('')), /.+/);
    assert.match(said(await prove('#!/missing/interpreter\n')), /cannot be executed: .*ENOENT/);
  });

  it('refuses what exits oddly, crashes, or prints nonsense', async () => {
    assert.equal(await prove('#!/bin/sh\nexit 7\n'), 'PROGRAM exited with 7 and is no virtlockd');
    assert.equal(await prove('#!/bin/sh\nkill -SEGV $$\n'), 'PROGRAM was ended by SIGSEGV and is no virtlockd');
    for (const nonsense of [
      'hello',
      'virtlockd (libvirt) nine',
      'virtlockd (libvirt) 9.0.0 and more',
      'virtlockd (libvirt) 1000.0.0',
      ' virtlockd state document check 1',
    ]) {
      assert.equal(typeof (await prove(`#!/bin/sh\necho '${nonsense}'\n`)), 'string', nonsense);
    }
    assert.equal(typeof (await prove(`#!/bin/sh\nexec yes\n`.replace('yes', 'head -c 3000000 /dev/zero'))), 'string');
  });

  it('refuses a truncated program of our own', async () => {
    assert.equal(typeof (await prove("#!/bin/sh\nnode='/nowhere\n")), 'string');
  });

  it('ends a program that hangs, whatever it ignores and leaves behind', async () => {
    writeFileSync(program, "#!/bin/sh\ntrap '' TERM INT\nsleep 30 &\nwhile :; do sleep 0.05; done\n", { mode: 0o755 });
    assert.match(said(await outcome(program, 300)), /^PROGRAM (did nothing for|took longer than) 0\.3 s and is no/);
  });

  describe('on a machine where it takes long', () => {
    /** Loops without a pause for a second at least. */
    const work = 'while [ $SECONDS -lt 2 ]; do :; done';
    let log: LogRecorder;

    beforeEach(() => {
      log = new LogRecorder(path.join(directory.path, 'log'));
    });
    afterEach(() => {
      log.stop();
    });

    async function proveFor(text: string, longest: number): Promise<[Successor | string, string[]]> {
      writeFileSync(program, text, { mode: 0o755 });
      const result = await outcome(program, 500, longest);
      return [result, log.lines.map((line) => line.replace(program, 'PROGRAM'))];
    }

    const slow = (seconds: number): string =>
      `warning: PROGRAM takes long to prove that it can go on: it gets up to ${seconds} s, and clients are served`;

    it('goes on while the program is at work, and the log says so', async () => {
      const ours = own('["/bin/node"]\\n', 0).replace('#!/bin/sh\n', `#!/bin/bash\n${work}\n`);
      assert.deepEqual(await proveFor(ours, 30_000), [{ kind: 'own', command: ['/bin/node'] }, [slow(30)]]);
    });

    it('does so for the version of a C daemon, too', async () => {
      const theirs = c('9.0.0').replace('#!/bin/sh\n', `#!/bin/bash\n[ "$1" = --version ] && ${work}\n`);
      assert.deepEqual(await proveFor(theirs, 30_000), [{ kind: 'c', version: '9.0.0' }, [slow(30)]]);
    });

    it('ends a program that works for ever', async () => {
      const [refusal, lines] = await proveFor('#!/bin/sh\nwhile :; do :; done\n', 1200);
      assert.equal(refusal, 'PROGRAM took longer than 1.2 s and is no virtlockd');
      assert.deepEqual(lines, [slow(1.2)]);
    });

    it('ends one that does nothing as soon as before, and the log has its refusal alone', async () => {
      const [refusal, lines] = await proveFor('#!/bin/sh\nexec sleep 30\n', 30_000);
      assert.equal(refusal, 'PROGRAM did nothing for 0.5 s and is no virtlockd');
      assert.deepEqual(lines, []);
    });
  });

  it('has more time for a large document, but no more in all until that is over', () => {
    const bytes = (length: number): Buffer[] => [Buffer.alloc(length)];
    assert.deepEqual(timeFor([]), { limit: 10_000, longest: 60_000 });
    assert.deepEqual(timeFor([...bytes(1_500_000), ...bytes(500_999)]), { limit: 12_000, longest: 60_000 });
    assert.deepEqual(timeFor(bytes(50_001_000)), { limit: 60_001, longest: 60_001 });
  });

  it('does not wait for what a good program leaves behind', async () => {
    const program = own('["/bin/node"]\\n', 0).replace('exit 0', 'sleep 30 &\nexit 0');
    assert.deepEqual(await prove(program), { kind: 'own', command: ['/bin/node'] });
  });
});
