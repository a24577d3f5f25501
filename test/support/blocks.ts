/**
 * Which test runs each block of the documents as it is printed, or why none can. A block is named by its first line. A new block of commands
 * needs an entry here (test/unit/docs/blocks.test.ts).
 */
import assert from 'node:assert/strict';
import { type Block, blocksOf, readPage } from './documents.ts';

interface Page {
  /** The test that runs the blocks that are not named below. */
  readonly test?: string;
  /** Blocks that another test runs. */
  readonly tests?: Readonly<Record<string, string>>;
  /** Why no test runs the others. */
  readonly untested?: Readonly<Record<string, string>>;
}

const CHECKOUT = 'test/package/checkout.test.ts';
const MACHINE = 'test/package/documents.test.ts';
const OPERATIONS = 'test/e2e/docs/operations.test.ts';
const PICTURE = 'no commands';
const CLUSTER =
  'it takes hosts that this machine has not; the page says what was run, and lockspace-test.test.ts runs the test between two mounts';

export const pages: Readonly<Record<string, Page>> = {
  'README.md': {
    test: 'test/e2e/docs/readme.test.ts',
    tests: {
      'npm ci && npm start': CHECKOUT,
      'npm ci && npm run demo': CHECKOUT,
      'npm ci && npm run package': MACHINE,
    },
    untested: {
      'libvirtd ──┐   lock socket: register, acquire, release   ┌── fcntl lock on byte 0 of each disk, or of a file':
        PICTURE,
      'npm ci && npm test': 'it is what runs this test: .ci/run does nothing else on a fresh Debian 12',
    },
  },
  'CONTRIBUTING.md': { untested: { 'npm ci && npm test': 'it is what runs this test' } },
  'docs/architecture.md': {
    untested: {
      'xdr/                       the wire, pure: bytes in, values out; one description for each program':
        'no commands; test/unit/docs/rooms.test.ts compares it with scripts/rooms.ts',
    },
  },
  'docs/client.md': { test: 'test/package/client/package.test.ts' },
  'docs/conformance.md': {
    untested: {
      'bin/virtlockd-conformance -- /usr/sbin/virtlockd':
        'all checks of both daemons take two minutes; test/wire/programs/conformance/program.test.ts runs the program with some, and verdicts.test.ts makes all',
      "files: file r                                    the exchange's own change: a file r in its directory, @":
        PICTURE,
      'npm run mutants                     every check against every mutant, and which of them fail (an hour)':
        'an hour; mutants.test.ts makes the checks that each mutant names',
      "exchange('RESTRICT twice', 'RESTRICT forbids the next RESTRICT too.', () => [":
        'source code: the pattern of a check to be written',
      '{': 'source code: the pattern of a check to be written',
    },
  },
  'docs/findings.md': {
    untested: {
      'bin/virtlockd-fuzz calls --time 60                     this code, guided by coverage':
        'a minute to an hour each; test/wire/programs/fuzz/fuzz.test.ts runs each target for some runs, and replays every file',
    },
  },
  'docs/operations/admin.md': { test: OPERATIONS },
  'docs/operations/crash.md': { test: MACHINE },
  'docs/operations/install.md': {
    test: MACHINE,
    untested: {
      "virtlockd-swap: libvirt's virtlockd, process 812, is left as it is: client 9 is connected and has not called yet, …":
        'a message; test/package/hazards.test.ts provokes it',
      'virtlockd-swap: virtlockd, process 812, goes on in its former program: /usr/sbin/virtlockd does not run: …':
        'a message; test/package/hazards.test.ts provokes it',
      '# dpkg-query --search /usr/sbin/virtlockd': 'the essence of what test/package/upkeep.test.ts does',
    },
  },
  'docs/operations/live-swap.md': { test: 'test/e2e/restart/live-swap.test.ts' },
  'docs/operations/lockctl.md': {
    test: OPERATIONS,
    untested: {
      "# virt-lockctl lockspace test --peer 'ssh node2' /srv/vm/locks": CLUSTER,
      'db (pid 2003) on host node7 holds an exclusive lock as 5f70… in lockspace /mnt/locks':
        'it takes another host; holder-notes.test.ts and gluster-hosts.test.ts have two on this machine',
      'OK: 3 locks, all confirmed by the kernel but 2, of which fuse.glusterfs has the only record; of 2 on storage that hosts may share, its server confirms 2.':
        'it takes shared storage; test/wire/programs/lockctl/health.test.ts has a FUSE file system, and the whole line',
      'virtlockd holder 1 crc32=5d0c8a11': 'no commands; test/unit/storage/holder-note.test.ts has the format',
    },
  },
  'docs/operations/etcd.md': {
    test: 'test/e2e/docs/etcd.test.ts',
    tests: { 'mkdir -p /etc/systemd/system/virtlockd.service.d': 'test/package/etcd.test.ts' },
    untested: {
      'apt-get install etcd-server etcd-client': 'what CI does before all tests',
      'systemctl restart etcd': 'it takes machines with systemd; the test starts etcd with the same settings',
      'etcd_endpoints = [ "https://etcd1:2379", "https://etcd2:2379", "https://etcd3:2379" ]':
        'no commands; the settings are tested in test/wire/etcd',
      'file_lockspace_dir = "/var/lib/libvirt/lockd/etcd/files"': 'no commands',
      'virt-lockctl list --all-hosts':
        'it takes a host of that cluster; test/wire/etcd/tools.test.ts and health.test.ts run them',
      'virt-lockctl host list': 'it takes a host that is dead; test/wire/etcd/tools.test.ts runs both',
    },
  },
  'docs/operations/many-hosts.md': {
    untested: {
      '# NFSv4.2': CLUSTER,
      'gluster volume create vm replica 3 node1:/bricks/vm node2:/bricks/vm node3:/bricks/vm': CLUSTER,
      'install -d -m 0700 /srv/vm/locks /srv/vm/locks/files /srv/vm/locks/volumes /srv/vm/locks/scsi': CLUSTER,
      "# virt-lockctl lockspace test --peer 'ssh node2' /srv/vm/locks/files": CLUSTER,
      'mount -t glusterfs node1:/vm /mnt/second': CLUSTER,
      'lock_manager = "lockd"': CLUSTER,
      'file_lockspace_dir = "/srv/vm/locks/files"': CLUSTER,
      'lvm_lockspace_dir = "/srv/vm/locks/volumes"': CLUSTER,
      'virt-lockctl lockspace list': CLUSTER,
      '# virt-lockctl why /srv/vm/db.img': CLUSTER,
    },
  },
  'docs/operations/monitoring.md': {
    test: OPERATIONS,
    tests: { 'systemctl enable --now virtlockd-metrics.timer': 'test/package/systemd.test.ts' },
  },
  'docs/owners-end.md': {
    untested: {
      'npm run life -- --ends 1000 --seed 15': 'many minutes each; test/campaigns/life/life.test.ts plays 25 ends',
    },
  },
  'docs/performance.md': {
    untested: {
      'npm run bench -- [options]             everything, about 25 minutes with the default rounds':
        'a form, not a command; half an hour',
    },
  },
};

/** Those of a page that may have commands. */
function* blocksIn(page: string): Generator<Block & { readonly name: string }> {
  for (const block of blocksOf(readPage(page)))
    if (block.language !== 'c') yield { ...block, name: block.text.trimStart().split('\n')[0] ?? '' };
}

/** The names of the blocks of a page, and which test runs each; undefined for those of which nothing is said. */
export function* placesOf(page: string): Generator<readonly [name: string, place: string | undefined]> {
  const { test, tests = {}, untested = {} } = pages[page] ?? {};
  for (const { name } of blocksIn(page)) yield [name, untested[name] ?? tests[name] ?? test];
}

/** The blocks of a page that a test has to run, in their order. */
export function blocksFor(page: string, test: string): Block[] {
  const { test: usual, tests = {}, untested = {} } = pages[page] ?? {};
  const blocks = [...blocksIn(page)].filter(({ name }) => !(name in untested) && (tests[name] ?? usual) === test);
  assert.ok(blocks.length > 0, `${test} runs blocks of ${page}`);
  return blocks;
}
