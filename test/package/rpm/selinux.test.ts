/** The SELinux policy of the RPM package compiles, and a policy that lacks one of its types takes none of it. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';

const TYPES = ['virtlogd_t', 'virtlogd_exec_t', 'bin_t', 'shell_exec_t', 'lib_t', 'tmpfs_t', 'init_t'];

/** The least policy in which the types, classes and permissions are that Fedora's has of these names. */
const stub = (types: readonly string[]): string => `
(mls true)
(sid kernel) (sidorder (kernel))
(class file (getattr setattr open read write append ioctl lock map execute execute_no_trans entrypoint))
(class dir (getattr open read search))
(class lnk_file (getattr read))
(class process (execmem getsched setsched setrlimit signal sigkill signull getattr))
(class fifo_file (getattr read write append ioctl))
(class unix_dgram_socket (sendto))
(class unix_stream_socket (connectto))
(class system (status))
(class capability (dac_override dac_read_search fowner kill))
(classorder (file dir lnk_file process fifo_file unix_dgram_socket unix_stream_socket system capability))
(sensitivity s0) (sensitivityorder (s0)) (category c0) (categoryorder (c0)) (sensitivitycategory s0 (c0))
(user system_u) (role object_r) (role system_r) (userrole system_u object_r) (userrole system_u system_r)
(userlevel system_u (s0)) (userrange system_u ((s0) (s0)))
(type kernel_t) ${types.map((type) => `(type ${type})`).join(' ')}
(typeattribute domain) (typeattributeset domain (kernel_t))
(roletype object_r virtlogd_exec_t) (roletype object_r bin_t) (roletype system_r kernel_t)
(allow kernel_t bin_t (file (read)))
(sidcontext kernel (system_u system_r kernel_t ((s0) (s0))))
`;

describe('the SELinux policy of the RPM package', () => {
  let directory: string;

  before(function () {
    skipIf(this, spawnSync('secilc', ['--help']).error === undefined ? undefined : 'secilc is not installed');
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-policy-'));
  });

  after(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  /** Compiles it with a stub that has those types. Returns the types that files get, by the patterns of their paths. */
  function compile(types: readonly string[]): Record<string, string> {
    writeFileSync(join(directory, 'base.cil'), stub(types));
    const policy = join(checkout, 'packaging/rpm/virtlockd_node.cil');
    const contexts = join(directory, 'contexts');
    execFileSync('secilc', ['-o', join(directory, 'policy'), '-f', contexts, join(directory, 'base.cil'), policy]);
    const rows = readFileSync(contexts, 'latin1').trim().split('\n').filter(Boolean);
    return Object.fromEntries(rows.map((row) => [row.split('\t')[0] ?? '', /:(\w+_t):/.exec(row)?.[1] ?? '']));
  }

  it("gives the launchers, and libvirt's program under its second name, the type of libvirt's lock daemon", () => {
    const lib = '/usr/lib/virtlockd-node';
    assert.deepEqual(compile(TYPES), {
      [`${lib}/bin/virtlockd`]: 'virtlogd_exec_t',
      [`${lib}/bin/virtlockd-service`]: 'virtlogd_exec_t',
      '/usr/sbin/virtlockd\\.libvirt': 'virtlogd_exec_t',
      '/usr/bin/virtlockd\\.libvirt': 'virtlogd_exec_t',
      [`${lib}/dist/etcd-guard`]: 'bin_t',
      [`${lib}/dist/launch`]: 'bin_t',
      [`${lib}/dist/log-writer`]: 'bin_t',
      [`${lib}/dist/storage`]: 'bin_t',
    });
  });

  it('changes nothing in a policy without one of its types', () => {
    assert.deepEqual(compile(TYPES.filter((type) => type !== 'tmpfs_t')), {});
  });
});
