import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import {
  publishStateFile,
  readStateFile,
  removeStateFile,
  StateFileError,
  writeStateFile,
} from '../../../src/restart/state-file.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { checkout } from '../../../src/lab/trees.ts';
import { missingLab } from '../../../src/lab/requirements.ts';
import { skipIf } from '../../support/skip.ts';
import { lockOf, temporaryDirectory } from '../support/locks.ts';

describe('the state file', () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let file: string;
  const bytes = Buffer.from('{"magic":"\xff"}', 'latin1');

  beforeEach(() => {
    directory = temporaryDirectory();
    file = path.join(directory.path, 'state');
  });
  afterEach(() => {
    directory.remove();
  });

  const refused = (action: () => unknown, why: RegExp): void => {
    assert.throws(action, (error) => error instanceof StateFileError && why.test(error.message));
  };

  it('is written with mode 0700, replaces an earlier one, and is read and removed', () => {
    for (let i = 0; i < 2; i++) {
      writeStateFile(file, [bytes]);
      assert.equal(statSync(file).mode & 0o7777, 0o700);
    }
    assert.deepEqual(readStateFile(file), bytes);
    removeStateFile(file);
    removeStateFile(file);
    assert.equal(readStateFile(file), null);
  });

  it("is the daemon's own as long as it has its name", () => {
    const lockspaces = new Lockspaces(dialectOf(12_008_000));
    const owner = { owner: unknownOwner(5_000_001), since: 0, client: 0 };
    const published = `${file}.published`;
    const acquire = (): void => {
      lockspaces.acquire(lockspaces.default, published, modeOf(0), owner);
    };
    writeStateFile(file, [bytes]);
    publishStateFile(file, published);
    assert.throws(acquire, /is locked: it is the daemon's own restart state$/);
    removeStateFile(published);
    // Most file systems give it the same inode number.
    writeFileSync(published, bytes);
    acquire();
    assert.equal(lockOf(published), 'WRITE');
    lockspaces.release(lockspaces.default, published, 5_000_001);
  });

  it('does not take the place of what is held as a resource', () => {
    const lockspaces = new Lockspaces(dialectOf(12_008_000));
    writeFileSync(file, '');
    lockspaces.acquire(lockspaces.default, file, modeOf(0), { owner: unknownOwner(5_000_001), since: 0, client: 0 });
    writeStateFile(`${file}.new`, [bytes]);
    const why = /is held as a resource: it must be released first$/;
    refused(() => {
      writeStateFile(file, [bytes]);
    }, why);
    refused(() => {
      publishStateFile(`${file}.new`, file);
    }, why);
    assert.equal(lockOf(file), 'WRITE');
    lockspaces.release(lockspaces.default, file, 5_000_001);
  });

  it('does not write through an earlier hard link', () => {
    const victim = path.join(directory.path, 'victim');
    writeFileSync(victim, 'precious');
    linkSync(victim, file);
    writeStateFile(file, [bytes]);
    assert.equal(readFileSync(victim, 'latin1'), 'precious');
  });

  it('is refused where a symbolic link was planted', () => {
    const victim = path.join(directory.path, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, file);
    refused(() => {
      writeStateFile(file, [bytes]);
    }, /no regular file/);
    refused(() => readStateFile(file), /symbolic link/);
    assert.equal(readFileSync(victim, 'latin1'), 'precious');
    assert.ok(lstatSync(file).isSymbolicLink());
  });

  it('is refused where a directory or a FIFO is, without waiting', () => {
    mkdirSync(file);
    refused(() => {
      writeStateFile(file, [bytes]);
    }, /no regular file/);
    refused(() => readStateFile(file), /no regular file/);
    const fifo = path.join(directory.path, 'fifo');
    execFileSync('mkfifo', [fifo]);
    refused(() => readStateFile(fifo), /no regular file/);
  });

  it("is refused when it is another user's", function () {
    if (process.geteuid?.() !== 0) skipIf(this, 'not root');
    writeFileSync(file, bytes);
    chownSync(file, 12345, 12345);
    refused(() => {
      writeStateFile(file, [bytes]);
    }, /belongs to user 12345/);
    refused(() => readStateFile(file), /belongs to user 12345/);
    assert.ok(existsSync(file));
  });

  it('is never opened for reading while it is a held resource', () => {
    writeFileSync(file, bytes);
    const lockspaces = new Lockspaces(dialectOf(12_008_000));
    lockspaces.acquire(lockspaces.default, file, modeOf(0), { owner: unknownOwner(1), since: 0, client: 0 });
    refused(() => readStateFile(file), /held resource/);
    assert.equal(lockOf(file), 'WRITE');
    for (const resource of lockspaces.default.resources.values()) lockspaces.endResource(resource);
  });

  it('is refused in a directory that is missing', () => {
    refused(() => {
      writeStateFile(path.join(directory.path, 'no', 'state'), [bytes]);
    }, /cannot create/);
  });

  it('is refused and leaves nothing where no space is left', function () {
    skipIf(this, missingLab());
    // In a child, for its own mount namespace.
    const script = `
      import { writeStateFile, writeStateFileInSlices, StateFileError } from ${JSON.stringify(path.join(checkout, 'src/restart/state-file.ts'))};
      import { readdirSync } from 'node:fs';
      for (const write of [writeStateFile, writeStateFileInSlices]) {
        try { await write(process.argv[1] + '/state', Array(1000).fill(Buffer.alloc(1000))); console.log('written'); }
        catch (error) { console.log(error instanceof StateFileError, error.message.includes('ENOSPC'), readdirSync(process.argv[1]).length); }
      }
    `;
    const command = 'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" --input-type=module-typescript -e "$3" "$1"';
    const output = execFileSync(
      'unshare',
      ['-m', '--propagation', 'private', 'sh', '-c', command, 'sh', directory.path, process.execPath, script],
      { encoding: 'latin1', cwd: checkout },
    );
    assert.equal(output, 'true true 0\ntrue true 0\n');
  });
});
