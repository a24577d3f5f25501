/** The client library as its users get it, by itself or with the whole: packed, installed elsewhere, compiled against, run. */
import assert from 'node:assert/strict';
import { type ExecFileSyncOptions, execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LockDaemon, startDaemon } from '../../../src/lab/start.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { blocksFor } from '../../support/blocks.ts';

const node = realpathSync(process.execPath);
const tool = (file: string): string => join(checkout, 'node_modules', file);

/** Runs a program to its end and returns what it prints. @throws Error with that, when it fails */
function run(program: string, args: readonly string[], cwd: string, environment: Record<string, string> = {}): string {
  const options = { cwd, encoding: 'utf8', stdio: 'pipe', env: { ...process.env, ...environment } } as const;
  try {
    return execFileSync(program, args, options satisfies ExecFileSyncOptions);
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')}:\n${stdout ?? ''}${stderr ?? String(error)}`, { cause: error });
  }
}

/** The programs in the guide, with the output that it shows. */
const guide = readFileSync(join(checkout, 'docs/client.md'), 'utf8');
const programs = [
  ...guide.matchAll(/^## (.*?)$(?:(?!^## )[^])*?^```ts\n([^]*?)^```\n(?:\n(prints [^]*?)\n(?:\n|(?![^])))?/gm),
].map(([, title = '', source = '', prints = '']) => ({
  title,
  source,
  prints: [...prints.matchAll(/`([^`]*)`/g)].map(([, line = '']) => line),
}));

/** Uses every name that the module exports, and some in ways that must not compile. */
const consumer = (module: string): string => `
import {
  ADMIN_SOCKET, AdminClient, type AcquireOptions, type CallOptions, CallTimeout, type ClientIdentity, type ClientLimits,
  type ClientLimitsChange, type ConnectedClient, ConnectionLost, DEFAULT_LOCKSPACE, type DiskOptions, diskResourceName,
  ErrorCode, ErrorDomain, type LeaseDetails, LeaseRequired, type LibraryVersion, LOCK_SOCKET, LockClient, LockDriver,
  type LockDriverOptions, LockManager, type LogSetting, type Name, type OwnerDetails, type Parameters, type ParameterValue,
  ProtocolError, type RemoteDetails, RemoteFailure, type ThreadPool, type ThreadPoolChange,
} from '${module}';

const owner: OwnerDetails = { uuid: new Uint8Array(16).fill(1), name: 'vm', id: 1, pid: 5_000_000 };
const acquire: AcquireOptions = { autocreate: true, timeout: 5_000 };
const space: Name = Buffer.from('/run/consumer');

async function main(): Promise<void> {
  const client: LockClient = await LockClient.connect(LOCK_SOCKET, { timeout: 5_000 } satisfies CallOptions);
  await client.register(owner);
  await client.createLockspace(space);
  await client.acquire(space, 'key', acquire);
  const failure: unknown = await client.acquire(space, 'key').catch((error: unknown) => error);
  if (!(failure instanceof RemoteFailure)) throw new Error('not refused');
  const remote: RemoteDetails = failure.remote;
  console.log(remote.code === ErrorCode.RESOURCE_BUSY, failure.domain === ErrorDomain.LOCKSPACE, failure.message);
  await client.release(space, 'key');
  client.close();
  const admin: AdminClient = await AdminClient.connect(ADMIN_SOCKET);
  const limits: ClientLimits = await admin.limits('virtlockd');
  const pool: ThreadPool = await admin.threadPool('virtlockd');
  const version: LibraryVersion = await admin.libVersion();
  const filters: LogSetting = await admin.logFilters();
  console.log(typeof limits.maxClients, pool.maxWorkers, typeof version.major, filters.count);
  await admin.close();
  // @ts-expect-error an owner wants a pid
  client.register({ uuid: '', name: '', id: 1 }).catch(() => undefined);
  // @ts-expect-error flags are options
  client.acquire(space, 'key', 3).catch(() => undefined);
  // @ts-expect-error made by connect only
  new LockClient();
}
main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
export const used = [CallTimeout, ConnectionLost, DEFAULT_LOCKSPACE, diskResourceName, LeaseRequired, LockDriver, LockManager, ProtocolError];
export type Used = [ClientIdentity, ClientLimitsChange, ConnectedClient, DiskOptions, LeaseDetails, LockDriverOptions, Parameters, ParameterValue, ThreadPoolChange];
`;
const printed = "true true resource busy: Lockspace resource 'key' is locked\nnumber 0 number 0\n";

describe('the client library, packed', function () {
  this.timeout(120_000);
  let daemon: LockDaemon;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    daemon = await startDaemon('ours');
  });

  after(async () => {
    await (daemon as LockDaemon | undefined)?.stop();
  });

  /** Runs a program inside the daemon's lab, where its sockets have the paths that the library expects. */
  async function runInLab(file: string): Promise<string> {
    const { code, stdout, stderr } = await daemon.lab.run(node, [file]);
    assert.equal(code, 0, stdout + stderr);
    assert.equal(stderr, '');
    return stdout;
  }

  /** A package in an empty project of its own, with a program for each kind of module that uses what `module` exports. */
  class Project {
    readonly directory: string;
    readonly tarball: string;
    /** The command by which it was installed. */
    readonly command: string;

    /**
     * @param folder to pack
     * @param settings of npm, while it installs
     */
    constructor(folder: string, module: string, settings: Readonly<Record<string, string>>) {
      this.directory = mkdtempSync(join(daemon.lab.directory, 'consumer-'));
      // The scripts of a package under test would build in the checkout that is being tested.
      const packing = ['pack', folder, '--ignore-scripts', '--json', '--pack-destination', this.directory];
      const [packed] = JSON.parse(run('npm', packing, checkout)) as { filename: string }[];
      this.tarball = this.path(packed?.filename ?? '');
      this.command = `npm install ${packed?.filename ?? ''}`;
      this.write('package.json', JSON.stringify({ name: 'consumer', version: '1.0.0', private: true, type: 'module' }));
      const environment = Object.entries({ audit: 'false', fund: 'false', ...settings });
      const named = environment.map(([name, value]) => [`npm_config_${name}`, value] as const);
      run('sh', ['-c', this.command], this.directory, Object.fromEntries(named));
      this.write('esm.ts', consumer(module));
      this.write('commonjs.cts', consumer(module));
    }

    path(name: string): string {
      return join(this.directory, name);
    }

    write(name: string, text: string): void {
      writeFileSync(this.path(name), text);
    }

    compile(): void {
      symlinkSync(tool('@types'), this.path('node_modules/@types'));
      const compilerOptions = {
        ...{ target: 'es2022', lib: ['es2022'], module: 'nodenext', types: ['node'], strict: true, outDir: 'out' },
        ...{ exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false },
        ...{ rootDir: '.', isolatedModules: true, noPropertyAccessFromIndexSignature: true },
      };
      this.write('tsconfig.json', JSON.stringify({ compilerOptions, include: ['*.ts', '*.cts'] }));
      assert.equal(run(node, [tool('typescript/bin/tsc'), '-p', this.directory], this.directory), '');
    }
  }

  /** Tests of both packages. */
  function itServes(project: () => Project): void {
    it('compiles in strict mode, with the declarations checked, too', () => {
      project().compile();
    });

    it('runs as an ES module and as a CommonJS module', async () => {
      assert.equal(await runInLab(project().path('out/esm.js')), printed);
      assert.equal(await runInLab(project().path('out/commonjs.cjs')), printed);
    });

    it('pleases publint', () => {
      const { tarball, directory } = project();
      assert.match(run(node, [tool('publint/src/cli.js'), tarball, '--strict'], directory), /All good!/);
    });

    it('pleases attw', () => {
      // node10 is left out: it knows no exports, and no Node.js that this package runs on is so old.
      const { tarball, directory } = project();
      const args = [tool('@arethetypeswrong/cli/dist/index.js'), tarball, '--profile', 'node16', '--format', 'json'];
      const { analysis } = JSON.parse(run(node, args, directory)) as {
        analysis: { problems: { resolutionKind?: string }[] };
      };
      assert.deepEqual(
        analysis.problems.filter(({ resolutionKind }) => resolutionKind !== 'node10'),
        [],
      );
    });
  }

  describe('by itself', () => {
    let project: Project;

    before(() => {
      // All that npm may run or fetch, it may: there is nothing.
      project = new Project('./dist/client', 'virtlockd-client', { ignore_scripts: 'false', offline: 'true' });
      for (const [index, { source }] of programs.entries()) project.write(`guide-${index}.ts`, source);
    });

    it('brings no other package, no program, no script and nothing native', () => {
      const installed = readdirSync(project.path('node_modules'), { recursive: true, encoding: 'utf8' });
      assert.deepEqual(
        readdirSync(project.path('node_modules')).filter((name) => name !== '.package-lock.json'),
        ['virtlockd-client'],
      );
      assert.deepEqual(
        installed.filter((file) => /\.(node|gyp|c|cc|h|so)$/.test(file)),
        [],
      );
      const manifest = JSON.parse(
        readFileSync(project.path('node_modules/virtlockd-client/package.json'), 'utf8'),
      ) as object;
      const { version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string };
      assert.equal((manifest as { version?: string }).version, version);
      assert.deepEqual(
        Object.keys(manifest).filter((key) => /^(bin|scripts|gypfile|.*dependencies)$/i.test(key)),
        [],
      );
    });

    itServes(() => project);

    it('has a guide of whose blocks each is run', () => {
      const blocks = blocksFor('docs/client.md', 'test/package/client/package.test.ts').map(({ text }) => text);
      assert.deepEqual(blocks, [`${project.command}\n`, ...programs.map(({ source }) => source)]);
    });

    for (const [index, { title, prints }] of programs.entries()) {
      it(`does what the guide says: ${title}`, async () => {
        assert.deepEqual((await runInLab(project.path(`out/guide-${index}.js`))).split('\n').slice(0, -1), prints);
      });
    }
  });

  describe('with the whole', () => {
    let project: Project;

    before(() => {
      project = new Project('.', 'virtlockd/client', {
        ignore_scripts: 'true',
        omit: 'optional',
        prefer_offline: 'true',
      });
    });

    itServes(() => project);

    it('has commands that find the Node.js that npm puts beside it', () => {
      const runtime = `node-linux-${process.arch}`;
      symlinkSync(tool(runtime), project.path(`node_modules/${runtime}`));
      for (const command of ['virtlockd', 'virt-lockctl', 'virtlockd-trace', 'virtlockd-conformance']) {
        const said = run(project.path(`node_modules/.bin/${command}`), ['--version'], project.directory);
        assert.match(said, /\d+\.\d+\.\d+/);
      }
    });
  });

  it('has API pages without a warning', () => {
    const out = mkdtempSync(join(tmpdir(), 'virtlockd-api-'));
    try {
      const said = run(node, [tool('typedoc/bin/typedoc'), '--out', out], checkout);
      assert.doesNotMatch(said, /warning|error/i);
      for (const page of ['classes/LockClient.html', 'classes/AdminClient.html', 'classes/LockManager.html']) {
        assert.ok(existsSync(join(out, page)), page);
      }
    } finally {
      rmSync(out, { recursive: true });
    }
  });
});
