/** A checkout as it is found: in a path with a blank, without a build, without a compiler; and what npm would publish of it. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { eventually } from '../../src/lab/process.ts';
import { missingLab } from '../../src/lab/requirements.ts';
import { checkout, openLab } from '../../src/lab/trees.ts';
import { blocksFor } from '../support/blocks.ts';
import { skipIf } from '../support/skip.ts';

/** README's commands that begin with `npm ci`, which fetches from npm: without it. `npm run fresh` plays all of it. */
const [start = '', demo = '', ...others] = blocksFor('README.md', 'test/package/checkout.test.ts').map(({ text }) =>
  text.trim().replace(/^npm ci && /, ''),
);

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe('a checkout', function () {
  this.timeout(240_000);

  describe('in a path with a blank', () => {
    let copy: string;

    before(function () {
      skipIf(this, existsSync(join(checkout, '.git')) ? undefined : 'this is no git checkout');
      const parent = join(checkout, 'build');
      mkdirSync(parent, { recursive: true });
      copy = mkdtempSync(join(parent, 'with a blank '));
      const files = execFileSync('git', ['ls-files', '-coz', '--exclude-standard'], {
        cwd: checkout,
        encoding: 'utf8',
      });
      for (const file of files.split('\0').filter((name) => name !== '' && existsSync(join(checkout, name)))) {
        mkdirSync(dirname(join(copy, file)), { recursive: true });
        cpSync(join(checkout, file), join(copy, file), { verbatimSymlinks: true });
      }
      // Links to the same files: the build replaces those that it makes.
      execFileSync('cp', ['-al', join(checkout, 'node_modules'), copy]);
      rmSync(join(copy, 'node_modules/fs-ext/build'), { recursive: true, force: true });
    });

    after(() => {
      if ((copy as string | undefined) !== undefined) rmSync(copy, { recursive: true, force: true });
    });

    const run = (command: readonly string[], environment: NodeJS.ProcessEnv = {}): Outcome => {
      const [program = '', ...words] = command;
      const options = {
        cwd: copy,
        encoding: 'utf8',
        timeout: 120_000,
        env: { ...process.env, ...environment },
      } as const;
      return spawnSync(program, words, options);
    };

    it('says that it is not built', () => {
      for (const name of ['virtlockd', 'virt-lockctl', 'virtlockd-trace']) {
        const { status, stdout, stderr } = run([join(copy, 'bin', name), '--version']);
        assert.deepEqual([status, stdout], [3, ''], name);
        assert.match(stderr, /^.*: .* is not built: run 'npm ci' there\n$/, name);
      }
      const begin = performance.now();
      const { status, stderr } = run(['npm', 'run', '--silent', 'demo']);
      assert.equal(status, 1);
      assert.match(stderr, /^demo: the daemon does not start:\n.* is not built/);
      assert.doesNotMatch(stderr, /\n\s+at /);
      assert.ok(performance.now() - begin < 15_000, 'it does not wait for the daemon');
    });

    it('says that there is no compiler', () => {
      const { status, stderr } = run(['npm', 'run', 'build'], { CC: 'no-such-cc', CXX: 'no-such-c++' });
      assert.equal(status, 1);
      assert.match(stderr, /build-native: cannot run no-such-c\+\+: .*ENOENT; a C and a C\+\+ compiler are needed/);
    });

    it('says why the compiler failed', () => {
      const { status, stderr } = run(['npm', 'run', 'build'], { CC: 'cc -DNAPI_VERSION=nonsense' });
      assert.equal(status, 1);
      assert.match(stderr, /error: [^]*build-native: cc ended with status 1 for .*: see above/);
    });

    it('is built, and the demo tells its story to the end', () => {
      const built = run(['npm', 'run', 'build']);
      assert.equal(built.status, 0, built.stdout + built.stderr);
      assert.doesNotMatch(built.stderr, /warning:/);
      assert.match(run([join(copy, 'bin/virtlockd'), '--version']).stdout, / \(libvirt\) \d/);
      assert.deepEqual(others, []);
      const { status, stdout, stderr } = run(['sh', '-c', demo], { npm_config_loglevel: 'silent' });
      assert.equal(status, 0, stdout + stderr);
      assert.equal(stderr, '');
      assert.match(stdout, /^ {2}\$ virt-lockctl who .*\n {2}guest-a \(pid \d+\) holds an exclusive lock$/m);
      assert.match(stdout, /^ {2}\$ virt-lockctl refusals\n.*\n.*held by guest-a \(pid \d+\)$/m);
      // No line of the log between those of the story.
      assert.doesNotMatch(stdout, /(info|warning|error) : /);
    });

    it('starts a daemon that says where it listens', async function () {
      skipIf(this, missingLab());
      const lab = await openLab();
      try {
        const daemon = lab.spawn('sh', ['-c', `cd "$0" && ${start}`, copy], { env: { PATH: process.env.PATH ?? '' } });
        await eventually('it says where', () => daemon.output.includes('/run/libvirt/virtlockd-sock'), 20_000);
        // Not npm: it would not end before the daemon.
        await lab.run('sh', ['-c', 'kill $(cat /run/virtlockd.pid)']);
        await daemon.exited;
      } finally {
        await lab.close();
      }
    });
  });

  it('needs no newer Node.js for a dependency than it says itself', () => {
    const { engines } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as {
      engines: { node: string };
    };
    const lock = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { engines?: { node?: string } | string[] }>;
    };
    const oldest = /^>=(\d+)\.(\d+)$/.exec(engines.node)?.slice(1).map(Number) ?? [];
    assert.equal(oldest.length, 2);
    const readme = readFileSync(join(checkout, 'README.md'), 'utf8');
    assert.ok(readme.includes(`Node.js ${oldest.join('.')} or later`), 'README says so');
    for (const [name, found] of Object.entries(lock.packages)) {
      const range = Array.isArray(found.engines) ? undefined : found.engines?.node;
      if (range !== undefined) assert.ok(permits(range, oldest), `${name} needs Node.js ${range}`);
    }
  });

  it('is published with manuals and completions, without what a compiler leaves behind', () => {
    const packed = execFileSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], { cwd: checkout });
    const [manifest] = JSON.parse(packed.toString()) as { files: { path: string }[] }[];
    const paths = manifest?.files.map(({ path }) => path) ?? [];
    assert.deepEqual(
      paths.filter((path) => /\.(o|d|mk|a)$|Makefile|\/build\//.test(path)),
      [],
    );
    for (const page of ['virtlockd.8', 'virtlockd.conf.5', 'virt-lockctl.1', 'virtlockd-trace.1']) {
      assert.ok(paths.includes(`docs/man/${page}`), page);
    }
    for (const file of ['docs/completion/virt-lockctl.zsh', 'src/posix/addon.c', 'src/posix/addon.h']) {
      assert.ok(paths.includes(file), file);
    }
  });
});

/** Whether a range of npm's has that version; only forms that occur. */
function permits(range: string, [major = 0, minor = 0]: readonly number[]): boolean {
  return range.split('||').some((part) => {
    const words = /^\s*(>=?|\^|~)?\s*v?(\d+|\*)(?:\.(\d+|x))?(?:\.(?:\d+|x))?/.exec(part);
    if (words === null) return false;
    const [, operator = '', wantedMajor = '*', wantedMinor = '0'] = words;
    if (wantedMajor === '*') return true;
    const enough = minor >= (wantedMinor === 'x' ? 0 : Number(wantedMinor));
    if (operator.startsWith('>')) return major > Number(wantedMajor) || (major === Number(wantedMajor) && enough);
    return major === Number(wantedMajor) && enough;
  });
}
