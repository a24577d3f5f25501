/** `virt-lockctl lockspace test` on storage that shares locks, that does not, and that does not answer. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gluster } from '../../../../src/lab/gluster.ts';
import { HangingStorage, type StorageOptions } from '../../../../src/lab/hanging-storage.ts';
import { type Finished, type Running } from '../../../../src/lab/process.ts';
import { missingDaemon, missingFuse, missingGluster } from '../../../../src/lab/requirements.ts';
import type { Lab } from '../../../../src/lab/root.ts';
import { checkout, openLab } from '../../../../src/lab/trees.ts';
import { skipIf } from '../../../support/skip.ts';

const program = join(checkout, 'bin/virt-lockctl');
/** Runs the words behind it as ssh does, by a shell. */
const shell = `PATH=${checkout}/bin:$PATH`;

interface Report {
  readonly verdict: string;
  readonly between: string;
  readonly sides: readonly { readonly host: string; readonly type: string; readonly options: readonly string[] }[];
  readonly checks: readonly { readonly check: string; readonly result: string; readonly found: readonly string[] }[];
  readonly conclusion: readonly string[];
}

describe('virt-lockctl lockspace test', function () {
  this.timeout(60_000);
  let lab: Lab;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    lab = await openLab();
  });

  after(async () => {
    await (lab as Lab | undefined)?.close();
  });

  const test = async (...args: readonly string[]): Promise<Finished> =>
    lab.run(program, ['lockspace', 'test', ...args]);
  const report = async (...args: readonly string[]): Promise<Report & { readonly code: number | null }> => {
    const { code, stdout, stderr } = await test('--json', ...args);
    // A shell says so of the process that was to die.
    assert.match(stderr, /^(?:Killed\n)?$/);
    return { code, ...(JSON.parse(stdout) as Report) };
  };
  const resultOf = ({ checks }: Report, wanted: string): string | undefined =>
    checks.find(({ check }) => check === wanted)?.result;
  const failed = ({ checks }: Report): string[] =>
    checks.filter(({ result }) => result === 'bad').map(({ check }) => check);
  const filesIn = (directory: string): string[] => readdirSync(lab.outside(directory));

  /** Two directories of the lab, each a tmpfs. */
  const mountTmpfs = async (...names: readonly string[]): Promise<string[]> => {
    const points = names.map((name) => join(lab.directory, name));
    for (const point of points) {
      mkdirSync(point);
      assert.equal((await lab.run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', point])).code, 0);
    }
    return points;
  };

  describe('on a GlusterFS that is mounted twice', () => {
    let gluster: Gluster;
    let again: string;

    before(async function () {
      skipIf(this, missingGluster());
      gluster = await Gluster.start(lab);
      again = await gluster.mountAgain(lab);
    });

    after(async () => {
      await (gluster as Gluster | undefined)?.end();
    });

    it('shows that the locks of the one keep out the other, and leaves everything as it was', async () => {
      writeFileSync(lab.outside(gluster.at('image')), 'data');
      const before = statSync(lab.outside(gluster.at('image')), { bigint: true });
      const found = await report(gluster.mount, '--also', again);
      assert.deepEqual([found.code, found.verdict, found.between], [0, 'ok', 'mounts'], JSON.stringify(found, null, 1));
      const types = found.sides.map(({ type }) => type);
      assert.deepEqual(types, ['fuse.glusterfs', 'fuse.glusterfs']);
      assert.ok(found.sides.every(({ options }) => options.includes('rw')));
      assert.match(found.conclusion.join(' '), /Another host may mount it with other options: test each with --peer/);
      assert.deepEqual(filesIn(gluster.mount).sort(), ['disk', 'image']);
      const now = statSync(lab.outside(gluster.at('image')), { bigint: true });
      assert.deepEqual([now.mtimeNs, now.ctimeNs, now.ino], [before.mtimeNs, before.ctimeNs, before.ino]);
      assert.equal(readFileSync(lab.outside(gluster.at('image')), 'utf8'), 'data');
    });

    it('finds by a peer what two hosts share', async () => {
      const boot = join(lab.directory, 'boot-id');
      writeFileSync(lab.outside(boot), '00000000-0000-4000-8000-000000000002\n');
      // As on another host: another name, and another boot. Its shell is talkative.
      const enter = `mount --bind ${boot} /proc/sys/kernel/random/boot_id && hostname node2 && echo Welcome. && exec "$@"`;
      const peer = `unshare --mount --uts sh -c '${enter}' peer env ${shell}`;
      const found = await report(gluster.mount, '--peer', peer, '--also', again);
      assert.deepEqual([found.code, found.verdict, found.between], [0, 'ok', 'hosts'], JSON.stringify(found, null, 1));
      assert.equal(found.sides[1]?.host, 'node2');
      assert.match(
        found.conclusion.join(' '),
        /Between \S+ and node2\. Not tested: the death of a host, .* bricks free the locks/,
      );
      assert.deepEqual(
        filesIn(gluster.mount).filter((name) => name.startsWith('.virt')),
        [],
      );
    });

    it('ends with a message when its server hangs', async () => {
      await gluster.hang();
      try {
        const { code, stdout, stderr } = await test('--limit', '1', gluster.mount, '--also', again);
        assert.deepEqual([code, stdout], [1, '']);
        assert.match(stderr, /^virt-lockctl: \S+ does not answer within 1 s\nIts storage hangs, or is slow/m);
      } finally {
        gluster.letGo();
      }
    });
  });

  describe('on a file system of FUSE', () => {
    let storage: HangingStorage | undefined;
    let count = 0;
    const mount = async (options: StorageOptions): Promise<HangingStorage> =>
      (storage = await HangingStorage.mountIn(lab, options));

    before(function () {
      skipIf(this, missingFuse());
    });

    afterEach(async () => {
      const { mount: point } = storage ?? {};
      await storage?.end();
      storage = undefined;
      if (point !== undefined) await lab.run('umount', ['--lazy', point]);
      await lab.run('rm', ['-f', `${point ?? ''}.control`]);
    });

    it('that grants every lock, finds that out on one host', async () => {
      const { mount: point } = await mount({ hasOwnLocks: true, grantsAll: true });
      const found = await report(point);
      assert.deepEqual([found.code, found.verdict], [1, 'bad']);
      assert.deepEqual(
        failed(found).filter((name) => name !== 'replaced'),
        ['exclusive-ofd', 'shared-ofd', 'exclusive-posix', 'shared-posix', 'mixed'],
      );
      const { stdout } = await test(point);
      assert.match(
        stdout,
        /^FAIL another process gets an exclusive lock beside the exclusive one of one process: it is granted/m,
      );
      assert.match(stdout, /^Locks do not guard there: two hosts would write to one disk\.$/m);
    });

    it('whose locks stay in the kernel of each mount, as with virtiofs, finds that out by two mounts', async () => {
      const also = join(lab.directory, `also-${++count}`);
      const { mount: point } = await mount({ also });
      // Either mount by itself looks well.
      for (const one of [point, also]) assert.equal((await report(one)).verdict, 'ok');
      const found = await report(point, '--also', also);
      assert.deepEqual([found.code, found.verdict, found.between], [1, 'bad', 'mounts']);
      assert.equal(resultOf(found, 'same-storage'), 'ok');
      for (const check of ['exclusive-ofd', 'exclusive-posix', 'mixed']) assert.equal(resultOf(found, check), 'bad');
      await lab.run('umount', ['--lazy', also]);
    });

    it('whose server has the locks of both mounts, finds nothing', async () => {
      const also = join(lab.directory, `also-${++count}`);
      const { mount: point } = await mount({ hasOwnLocks: true, also });
      const found = await report(point, '--also', also);
      assert.deepEqual([found.code, found.verdict, found.between], [0, 'ok', 'mounts'], JSON.stringify(found, null, 1));
      await lab.run('umount', ['--lazy', also]);
    });

    it('that gives locks to nobody, says why', async () => {
      const { mount: point } = await mount({ hasOwnLocks: true });
      await storage?.fail('setlk', 37);
      const { code, stdout } = await test(point);
      assert.equal(code, 1);
      assert.match(stdout, /^FAIL one process gets no OFD lock on a new file: ENOLCK$/m);
    });

    it('that does not answer, ends with a message, and removes its files when it answers again', async () => {
      const { mount: point } = await mount({ hasOwnLocks: true });
      await storage?.hang('setlk');
      const { code, stderr } = await test('--limit', '1', point);
      assert.equal(code, 1);
      assert.match(stderr, /one process does not answer within 1 s$/m);
      assert.match(stderr, /one process still waits for the storage, and removes its files when that answers$/m);
      const before = storage?.requests.length ?? 0;
      await storage?.letGo();
      await storage?.asked('unlink', before);
    });

    it('removes its files when it is interrupted', async () => {
      const { mount: point } = await mount({ hasOwnLocks: true });
      await storage?.hang('setlk');
      const running: Running = lab.spawn(program, ['lockspace', 'test', point]);
      await storage?.asked('setlk');
      const before = storage?.requests.length ?? 0;
      running.kill('SIGINT');
      await storage?.letGo();
      await storage?.asked('unlink', before);
      const { code, stderr } = await running.exited;
      assert.deepEqual([code, stderr], [1, 'virt-lockctl: interrupted\n']);
    });

    it('removes its files when it is killed', async () => {
      const { mount: point } = await mount({ hasOwnLocks: true });
      await storage?.hang('setlk');
      const running: Running = lab.spawn(program, ['lockspace', 'test', point]);
      await storage?.asked('setlk');
      await running.stop('SIGKILL');
      const before = storage?.requests.length ?? 0;
      await storage?.letGo();
      await storage?.asked('unlink', before);
    });
  });

  it('finds that two tmpfs are not the same storage', async () => {
    const [one = '', two = ''] = await mountTmpfs('one', 'two');
    const found = await report(one, '--also', two);
    assert.deepEqual([found.code, found.verdict, failed(found)], [1, 'bad', ['same-storage']]);
    const { stdout } = await test(one, '--also', two);
    assert.match(stdout, /^FAIL a file that .*\/one has made is not there for .*\/two: this is not the same storage$/m);
    assert.deepEqual([...filesIn(one), ...filesIn(two)], []);
  });

  it('says what one host alone shows', async () => {
    const [alone = ''] = await mountTmpfs('alone');
    const found = await report(alone);
    assert.deepEqual(
      [found.code, found.verdict, found.between],
      [0, 'ok', 'processes'],
      JSON.stringify(found, null, 1),
    );
    assert.match(
      found.conclusion.join(' '),
      /does not show that another host sees .* tmpfs is a file system of one host/,
    );
    const bind = join(lab.directory, 'bind');
    mkdirSync(bind);
    await lab.run('mount', ['--bind', alone, bind]);
    assert.equal((await report(alone, '--also', bind)).between, 'processes');
    assert.deepEqual(filesIn(alone), []);
  });

  it('says why there is no peer, or no directory', async () => {
    const [at = ''] = await mountTmpfs('nopeer');
    const said = async (...args: string[]): Promise<string> => {
      const { code, stderr } = await test(...args);
      assert.equal(code, 1);
      return stderr;
    };
    assert.match(
      await said(at, '--peer', 'exit 9;'),
      /^virt-lockctl: the process of the peer has ended with status 9$/m,
    );
    assert.match(await said(`${at}/none`), /^virt-lockctl: one process cannot open the directory: ENOENT$/m);
    assert.equal((await test()).code, 2);
    assert.deepEqual(filesIn(at), []);
  });

  it('as a peer, touches no other files', async () => {
    const [at = ''] = await mountTmpfs('served');
    writeFileSync(lab.outside(`${at}/image`), 'data');
    const directory = Buffer.from(at).toString('base64');
    const requests = [
      'open image',
      `enter ${directory}`,
      'open image',
      'remove image',
      'remove ../image',
      'create other',
    ];
    const serve = lab.spawn(program, ['lockspace', 'test', '--serve'], { input: `${requests.join('\n')}\n` });
    const { code, stdout } = await serve.exited;
    assert.equal(code, 0);
    const [greeting, ...answers] = stdout.trim().split('\n');
    assert.match(greeting ?? '', /^virt-lockctl lockspace test \d+$/);
    assert.deepEqual(
      answers.map((line) => line.split(' ', 2).join(' ')).filter((line) => !line.startsWith('ok')),
      [...Array<string>(5).fill('error invalid')],
    );
    assert.deepEqual(filesIn(at), ['image']);
  });
});
