import assert from 'node:assert/strict';
import { freedBy, parseLeaseTime, unreportedAt } from '../../../../src/programs/lockctl/remote-locks.ts';

describe('who frees the locks of a host that is gone', () => {
  const mounts = [
    '20 1 8:1 / / rw - ext4 /dev/sda1 rw',
    '30 20 0:50 / /srv/three rw - nfs server:/a rw,vers=3',
    '31 20 0:51 / /srv/four rw shared:7 - nfs4 server:/b rw,vers=4.2',
    '32 20 0:52 / /srv/gluster rw - fuse.glusterfs server:/vm rw',
    '33 20 0:53 / /srv/ceph rw - ceph server:/ rw',
    '34 20 0:54 / /srv/cluster rw - gfs2 /dev/vg/lv rw',
    '35 20 0:55 / /srv/other rw - fuse.other x rw',
    '',
  ].join('\n');
  const says: readonly (readonly [string, RegExp])[] = [
    ['/srv/three/disk', /^The file system is nfs: .* until that host starts again and its statd tells the server/],
    ['/srv/four/disk', /^The file system is nfs4: .* when the lease of that host ends/],
    ['/srv/gluster/disk', /^The file system is fuse.glusterfs: its bricks .* disconnected/],
    ['/srv/ceph/disk', /^The file system is ceph: its MDS .* evicts/],
    ['/srv/cluster/disk', /^The file system is gfs2: the cluster .* fenced/],
  ];

  for (const [path, expected] of says) {
    it(`is said for ${path}, with no advice to delete the file`, () => {
      const said = freedBy(path, mounts) ?? '';
      assert.match(said, expected);
      assert.match(said, /Make sure that the host is off\. Do not delete the file/);
      assert.doesNotMatch(said.replace('Do not delete', ''), /\b(?:delete|remove|rm|unlink)\b/);
    });
  }

  it('says of NFSv3 alone that it does not report shared locks', () => {
    assert.match(unreportedAt('/srv/three/disk', mounts) ?? '', /^NFSv3 reports no shared locks of other hosts/);
    for (const path of ['/srv/four/disk', '/srv/gluster/disk', '/srv/disk'])
      assert.equal(unreportedAt(path, mounts), undefined);
  });

  it('is not said of a local file system, or of one that is not known', () => {
    assert.equal(freedBy('/srv/disk', mounts), undefined);
    assert.equal(freedBy('/srv/other/disk', mounts), undefined);
  });

  it('has the lease time of an NFSv4 server', () => {
    const stats = [
      'device server:/a mounted on /srv/four with fstype nfs4 statvers=1.1',
      '\tnfsv4:\tbm0=0xfdffbfff,acl=0x3,sessions,pnfs=not configured,lease_time=12,lease_expired=0',
      'device server:/b mounted on /srv/five with fstype nfs4 statvers=1.1',
      '\tnfsv4:\tbm0=0xfdffbfff,acl=0x3,sessions,pnfs=not configured,lease_time=90,lease_expired=0',
      '',
    ].join('\n');
    assert.equal(parseLeaseTime(stats, '/srv/five'), 90);
    assert.equal(parseLeaseTime(stats, '/srv/four'), 12);
    assert.equal(parseLeaseTime(stats, '/srv'), undefined);
  });
});
