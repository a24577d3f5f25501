/** The SELinux policy of the RPM package compiles, and a policy that lacks one of its types takes none of it. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkout } from '../../../src/lab/trees.ts';
import { skipIf } from '../../support/skip.ts';

const TYPES = ['virtlogd_t', 'virtlogd_exec_t', 'bin_t', 'shell_exec_t', 'lib_t', 'tmpfs_t', 'init_t'];
/** Those of the rules for etcd, and others of them that not every policy has. */
const ETCD_TYPES = [
  ...['unreserved_port_t', 'dns_port_t', 'net_conf_t', 'virt_etc_t', 'cert_t', 'proc_t', 'watchdog_device_t'],
];
const MORE_ETCD_TYPES = ['etcd_port_t', 'kubernetes_port_t', 'systemd_resolved_t', 'systemd_resolved_var_run_t'];

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
(class unix_stream_socket (connectto create read write getattr getopt setopt shutdown))
(class system (status))
(class capability (dac_override dac_read_search fowner kill ipc_lock sys_boot sys_nice sys_resource))
(class capability2 (wake_alarm))
(class tcp_socket (create connect getattr getopt setopt read write shutdown ioctl name_connect))
(class udp_socket (create connect getattr getopt setopt read write ioctl))
(class netlink_route_socket (create bind getattr read write nlmsg_read))
(class chr_file (getattr open write ioctl))
(class sock_file (getattr write))
(classorder (file dir lnk_file process fifo_file unix_dgram_socket unix_stream_socket system capability capability2 tcp_socket udp_socket
  netlink_route_socket chr_file sock_file))
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

  /** The files of a policy: a stub that has those types, and the package's. */
  function policy(types: readonly string[]): string[] {
    const base = join(directory, 'base.cil');
    writeFileSync(base, stub(types));
    return [base, join(checkout, 'packaging/rpm/virtlockd_node.cil')];
  }

  /** Compiles it with a stub that has those types. Returns the types that files get, by the patterns of their paths. */
  function compile(types: readonly string[]): Record<string, string> {
    const contexts = join(directory, 'contexts');
    execFileSync('secilc', ['-o', join(directory, 'policy'), '-f', contexts, ...policy(types)]);
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

  describe('for locks in etcd', () => {
    interface Rules {
      /** Each as `type class`. */
      readonly always: readonly string[];
      /** While the boolean is on. */
      readonly switched: readonly string[];
      /** The boolean's value at first; undefined: there is none. */
      readonly initial: string | undefined;
    }

    /** What the domain may do to what, in a policy with those types. */
    function rulesOf(types: readonly string[]): Rules {
      const file = join(directory, 'policy.conf');
      compile(types);
      execFileSync('secil2conf', ['-o', file, ...policy(types)]);
      const [text, always, switched] = [readFileSync(file, 'latin1'), [] as string[], [] as string[]];
      let rules = always;
      for (const line of text.split('\n')) {
        if (line === 'if (virtlockd_etcd) {') rules = switched;
        if (line === '}') rules = always;
        const [, type = '', kind = ''] = /^allow virtlogd_t (\w+) : (\w+) /.exec(line) ?? [];
        if (type !== '') rules.push(`${type} ${kind}`);
      }
      return { always, switched, initial: /^bool virtlockd_etcd (\w+);$/m.exec(text)?.[1] };
    }

    const ALL = [...TYPES, ...ETCD_TYPES];
    const isOfEtcd = (rule: string): boolean =>
      /tcp_socket|udp_socket|netlink|capability2|chr_file/.test(rule) ||
      [...ETCD_TYPES, ...MORE_ETCD_TYPES].some((type) => rule.startsWith(`${type} `));

    it('allows network, priorities and the watchdog by a boolean alone, which is off', () => {
      const { always, switched, initial } = rulesOf(ALL);
      assert.equal(initial, 'false');
      assert.deepEqual(always.filter(isOfEtcd), []);
      for (const rule of [
        ...['self tcp_socket', 'unreserved_port_t tcp_socket', 'self udp_socket', 'net_conf_t file', 'cert_t file'],
        ...['self capability', 'self capability2', 'self file', 'proc_t file', 'watchdog_device_t chr_file'],
      ])
        assert.ok(switched.includes(rule), rule);
      // What every host needs stays as it was.
      assert.deepEqual(always, rulesOf(TYPES).always);
    });

    it('has neither the boolean nor a rule of it where one of its types is missing', () => {
      for (const missing of ETCD_TYPES) {
        const { always, switched, initial } = rulesOf([...ALL.filter((type) => type !== missing), ...MORE_ETCD_TYPES]);
        assert.deepEqual([initial, switched], [undefined, []], missing);
        assert.ok(always.includes('domain process'), missing);
      }
    });

    it("allows etcd's own ports and systemd-resolved where the policy has their types", () => {
      const more = (...types: readonly string[]): string[] => {
        const without = new Set(rulesOf(ALL).switched);
        return rulesOf([...ALL, ...types]).switched.filter((rule) => !without.has(rule));
      };
      assert.deepEqual(more('etcd_port_t'), ['etcd_port_t tcp_socket']);
      assert.deepEqual(more('kubernetes_port_t'), ['kubernetes_port_t tcp_socket']);
      assert.ok(
        more('systemd_resolved_t', 'systemd_resolved_var_run_t').includes('systemd_resolved_t unix_stream_socket'),
      );
    });
  });
});
