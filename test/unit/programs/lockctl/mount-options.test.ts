import assert from 'node:assert/strict';
import { mountFindings } from '../../../../src/programs/lockctl/lockspace-test/mount-options.ts';

const found = (type: string, options: string, isShown = false): string[] =>
  mountFindings({ type, options }, isShown).map(({ result, text }) => `${result} ${text}`);

describe('mount options with which locks do not reach other hosts', () => {
  it('are found by the type of the file system', () => {
    for (const [type, options] of [
      ['nfs', 'rw,vers=3,nolock,hard'],
      ['nfs', 'rw,vers=3,local_lock=all'],
      ['cifs', 'rw,nobrl'],
      ['gfs2', 'rw,localflocks'],
    ] as const) {
      assert.match(found(type, options, true).join(), /^bad \S+ with \S+: with it, the locks are of that host alone$/);
    }
    assert.match(found('nfs4', 'rw,soft').join(), /^warning nfs4 with soft: .*; mount it with hard$/);
  });

  it('are none of sound mounts', () => {
    assert.deepEqual(found('nfs4', 'rw,vers=4.2,hard,local_lock=none'), []);
    assert.deepEqual(found('nfs', 'rw,vers=3,hard,local_lock=flock'), []);
    assert.deepEqual(found('fuse.glusterfs', 'rw,nolock'), []);
    assert.deepEqual(found('ocfs2', 'rw,cluster_stack=pcmk'), []);
  });

  it('are a warning for a type that may share no locks, until two hosts have shown that it does', () => {
    for (const [type, options] of [
      ['virtiofs', 'rw'],
      ['9p', 'rw'],
      ['ocfs2', 'rw,cluster_stack=o2cb'],
      ['ocfs2', 'rw'],
    ] as const) {
      assert.match(found(type, options).join(), /^warning /);
      assert.deepEqual(found(type, options, true), []);
    }
  });
});
