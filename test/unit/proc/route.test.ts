import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { posix } from '../../../src/posix/posix.ts';
import { parseMounts } from '../../../src/proc/mounts.ts';
import { Routes } from '../../../src/proc/route.ts';
import { constants } from 'node:os';
import { temporaryDirectory } from '../support/locks.ts';

const { EINVAL, ENOENT } = constants.errno;

const LOCAL = '20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:5 / /proc rw - proc proc rw\n';
const NFS = '30 20 0:50 / /mnt/nfs rw - nfs4 server:/ rw\n';

describe('the way of a path', () => {
  let asked: string[];

  /** @param links where they lead, by path; null: no such file */
  function routes(table: string, links: Readonly<Record<string, string | null>> = {}): Routes {
    asked = [];
    return new Routes({
      mounts: () => parseMounts(table),
      readLink: (one) => {
        asked.push(one);
        const target = links[one];
        return target === undefined ? -EINVAL : (target ?? -ENOENT);
      },
    });
  }

  it('asks for nothing where nothing may hang', () => {
    assert.equal(routes(LOCAL).placeOf('/mnt/nfs/disk'), null);
    assert.deepEqual(asked, []);
    assert.equal(routes('').placeOf('/mnt/nfs/disk'), null);
  });

  it('ends at the first mount that may hang, and asks nothing there', () => {
    const found = routes(LOCAL + NFS).placeOf('/mnt/nfs/a/b');
    assert.deepEqual(found, { key: 'fs 0:50', name: '/mnt/nfs' });
    assert.deepEqual(asked, ['/mnt']);
    assert.equal(routes(LOCAL + NFS).placeOf('/mnt/nfsother/b'), null);
    assert.equal(routes(LOCAL + NFS).placeOf('/proc/self/x'), null);
  });

  it('follows links on other file systems, absolute and relative, and no further than the kernel', () => {
    const table = LOCAL + NFS;
    assert.ok(routes(table, { '/disks': '/mnt/nfs' }).placeOf('/disks/a'));
    assert.ok(routes(table, { '/var/disks': '../mnt/./nfs/x' }).placeOf('/var/disks'));
    assert.equal(routes(table, { '/var/disks': '../mnt' }).placeOf('/var/disks/file'), null);
    assert.equal(routes(table, { '/loop': '/loop' }).placeOf('/loop'), null);
    assert.equal(routes(table, { '/gone': null }).placeOf('/gone/mnt/nfs'), null);
    assert.ok(routes(table).placeOf('//mnt/../mnt//nfs/..data'));
    // Behind the mount nothing is known: `..` may lead out of it again, but the call has asked it by then.
    assert.ok(routes(table).placeOf('/mnt/nfs/../x'));
  });

  it('tells where a name is made on a local file system that may be frozen: where the path ends, if with an error', () => {
    const disk = '40 20 8:2 / /var rw - xfs /dev/sda2 rw\n41 40 0:70 / /var/run rw - tmpfs tmpfs rw\n';
    const at = (one: string, links = {}): string | undefined => routes(LOCAL + NFS + disk, links).freezableAt(one)?.key;
    assert.equal(at('/leases/a'), 'fs 8:1');
    assert.equal(at('/var/leases/a', { '/var/leases': null }), 'fs 8:2');
    assert.equal(at('/leases/a', { '/leases': '/var/leases', '/var/leases/a': null }), 'fs 8:2');
    const overlay = '42 20 0:71 / /over rw - overlay overlay rw,upperdir=/upper\n';
    assert.equal(routes(LOCAL + overlay).freezableAt('/over/a')?.key, 'fs 0:71');
    assert.deepEqual([at('/var/run/a'), at('/mnt/nfs/a'), at('/proc/a')], [undefined, undefined, undefined]);
    assert.equal(routes('').freezableAt('/a'), null);
  });

  it('takes of mounts at one place the last one, and none that is hidden', () => {
    const over = '31 30 0:60 / /mnt/nfs rw - tmpfs tmpfs rw\n';
    assert.equal(routes(LOCAL + NFS + over).placeOf('/mnt/nfs/a'), null);
    const hidden = '32 20 0:61 / /mnt rw - tmpfs tmpfs rw\n';
    assert.equal(routes(LOCAL + NFS + hidden).placeOf('/mnt/nfs/a'), null);
    const inside = '33 30 8:2 / /mnt/nfs/local rw - ext4 /dev/sdb rw\n';
    assert.ok(routes(LOCAL + NFS + inside).placeOf('/mnt/nfs/local/a'));
    assert.equal(routes(LOCAL + NFS).placeOf('/mnt/a/../../x'), null);
    const root = '20 1 0:50 / / rw - nfs server:/ rw\n';
    assert.ok(routes(root).placeOf('/any'));
  });

  it('counts types that it does not know as ones that may hang', () => {
    for (const type of [
      'nfs',
      'nfs4',
      'cifs',
      'ceph',
      'fuse',
      'fuse.glusterfs',
      '9p',
      'autofs',
      'virtiofs',
      'gfs2',
      'new',
    ]) {
      assert.ok(routes(`${LOCAL}40 20 0:7 / /m rw shared:1 - ${type} x rw\n`).placeOf('/m/a'), type);
    }
    for (const type of ['xfs', 'btrfs', 'overlay', 'tmpfs', 'sysfs', 'cgroup2', 'devtmpfs', 'devpts']) {
      assert.equal(routes(`${LOCAL}40 20 0:7 / /m rw shared:1 - ${type} x rw\n`).placeOf('/m/a'), null, type);
    }
  });

  it('reads the mounts again once they are forgotten', () => {
    let table = LOCAL;
    const one = new Routes({ mounts: () => parseMounts(table), readLink: () => -EINVAL });
    assert.equal(one.placeOf('/mnt/nfs/a'), null);
    table += NFS;
    assert.equal(one.placeOf('/mnt/nfs/a'), null);
    one.forget();
    assert.ok(one.placeOf('/mnt/nfs/a'));
  });

  it('reads links of this machine', () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => path.join(directory.path, name);
    mkdirSync(at('d'));
    symlinkSync('d', at('l'));
    assert.deepEqual(
      [posix.readLink(at('l')), posix.readLink(at('d')), posix.readLink(at('x'))],
      ['d', -EINVAL, -ENOENT],
    );
    directory.remove();
  });
});
