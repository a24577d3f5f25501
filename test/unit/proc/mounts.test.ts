import assert from 'node:assert/strict';
import { statSync, readFileSync, openSync, closeSync } from 'node:fs';
import { descriptorInfo } from '../../../src/proc/locks.ts';
import {
  isLocalType,
  mayKeepNoRecord,
  mountDetails,
  mountDetailsAt,
  Mounts,
  parseMounts,
} from '../../../src/proc/mounts.ts';

const table = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
40 27 0:1048575 /a /mnt/with\\040-\\040blanks rw unbindable - fuse.glusterfs host:/v - rw
41 27 0:52 / /srv rw - nfs4 host:/srv rw,vers=4.2
`;

describe('mounts', () => {
  it('tell the type of a file system by the id of its mount', () => {
    assert.deepEqual(
      Array.from(parseMounts(table), ([id, { type }]) => [id, type]),
      [
        [22, 'proc'],
        [27, 'ext4'],
        [40, 'fuse.glusterfs'],
        [41, 'nfs4'],
      ],
    );
  });

  it('tell the type of a file system by a path, of the innermost and last that is mounted there', () => {
    const mounts = new Mounts(`${table}42 27 0:53 / /srv rw - tmpfs tmpfs rw\n`);
    const types = ['/', '/srvx', '/srv/a', '/mnt/with - blanks/b', '/proc'].map((path) => mounts.typeAt(path));
    assert.deepEqual(types, ['ext4', 'ext4', 'tmpfs', 'fuse.glusterfs', 'proc']);
  });

  it('are found of an open file', () => {
    const fd = openSync('/proc/self/stat', 'r');
    assert.equal(new Mounts().typeOf(descriptorInfo('self', fd).mount), 'proc');
    closeSync(fd);
    assert.equal(new Mounts().typeOf(0), undefined);
    assert.ok(statSync('/proc').isDirectory() && readFileSync('/proc/self/mountinfo').length > 0);
  });

  it('are local only where the kernel alone has the locks', () => {
    const all = [
      'ext4',
      'xfs',
      'btrfs',
      'tmpfs',
      'overlay',
      'nfs4',
      'ceph',
      'gfs2',
      'fuse',
      'virtiofs',
      'new',
      undefined,
    ];
    assert.deepEqual(all.filter(isLocalType), ['ext4', 'xfs', 'btrfs', 'tmpfs', 'overlay']);
    const others = ['fuse', 'fuseblk', 'fuse.glusterfs', 'virtiofs', 'fusectl', 'nfs4', undefined];
    assert.deepEqual(others.filter(mayKeepNoRecord), ['fuse', 'fuseblk', 'fuse.glusterfs', 'virtiofs']);
  });

  it('have their source and options, each once', () => {
    const table = [
      '20 1 8:1 / / rw - ext4 /dev/sda1 rw',
      String.raw`31 20 0:51 / /srv/a\040b rw,noatime shared:7 master:2 - nfs4 server:/b\040c rw,vers=4.2`,
      '',
    ].join('\n');
    const details = {
      device: '0:51',
      point: '/srv/a b',
      type: 'nfs4',
      source: 'server:/b c',
      options: 'rw,noatime,vers=4.2',
    };
    assert.deepEqual(mountDetails(31, table), details);
    assert.deepEqual(mountDetailsAt('/srv/a b/file', table), details);
    assert.throws(() => mountDetails(32, table));
  });
});
