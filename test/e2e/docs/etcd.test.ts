/** The commands of docs/operations/etcd.md: three members with TLS, made as the page says. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { addressOf, Network } from '../../../src/lab/network.ts';
import { eventually, type Running } from '../../../src/lab/process.ts';
import { missingCluster, onPath } from '../../../src/lab/requirements.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { openLab } from '../../../src/lab/trees.ts';
import { blocksFor } from '../../support/blocks.ts';
import { skipIf } from '../../support/skip.ts';
import { temporaryDirectory } from '../../unit/support/locks.ts';

const NAMES = ['etcd1', 'etcd2', 'etcd3'] as const;

describe('docs/operations/etcd.md', function () {
  this.timeout(120_000);
  const labs: Lab[] = [];
  let directory: ReturnType<typeof temporaryDirectory>;
  const blocks = blocksFor('docs/operations/etcd.md', 'test/e2e/docs/etcd.test.ts');
  const blockNamed = (word: string): string => {
    const found = blocks.filter(({ text }) => text.includes(word));
    assert.equal(found.length, 1, word);
    return found[0]?.text ?? '';
  };

  before(function () {
    skipIf(this, missingCluster(), onPath('openssl') ? undefined : 'openssl is not installed (package openssl)');
    directory = temporaryDirectory();
  });

  after(async () => {
    for (const lab of labs) await lab.close();
    directory.remove();
  });

  it('leads to a cluster of three with certificates, which serves a host, and has a user for it', async () => {
    assert.equal(blocks.length, 4);
    const { path } = directory;
    execFileSync('sh', ['-ec', blockNamed('openssl req -x509')], { cwd: path, stdio: 'pipe' });
    const open = async (hostname: string): Promise<Lab> => {
      const lab = await openLab('ours', [path], undefined, { offline: true, hostname });
      labs.push(lab);
      return lab;
    };
    const network = await Network.open(await open('bridge'));
    const hosts = NAMES.map((name, index) => `${addressOf(index + 1)} ${name}\n`).join('');
    const members: Running[] = [];
    const attachOne = async (name: string, number: number): Promise<Lab> => {
      const lab = await open(name);
      await network.attach(lab, number);
      lab.write('/etc/hosts', `127.0.0.1 localhost\n${hosts}`);
      return lab;
    };
    const settings = blockNamed('ETCD_NAME=');
    for (const [index, name] of NAMES.entries()) {
      const lab = await attachOne(name, index + 1);
      // Its own name everywhere but in the list of all.
      const own = settings.replaceAll(/^(?!ETCD_INITIAL_CLUSTER=).*$/gm, (line) => line.replaceAll('etcd1', name));
      for (const file of ['ca.crt', `${name}.crt`, `${name}.key`])
        await lab.run('install', ['-D', join(path, file), `/etc/etcd/${file}`]);
      // As systemd reads /etc/default/etcd.
      const env = Object.fromEntries(
        own
          .trim()
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
      );
      members.push(lab.spawn('etcd', [], { env, output: join(path, `${name}.log`) }));
    }
    const host = await attachOne('host', 9);
    for (const file of ['ca.crt', 'host.crt', 'host.key'])
      await host.run('install', ['-D', join(path, file), `/etc/libvirt/etcd/${file}`]);
    const script = blockNamed('etcdctl endpoint health');
    const shown = await eventually(
      'all three are healthy',
      async () => {
        const { code, stdout, stderr } = await host.run('sh', ['-ec', script]);
        if (code !== 0) throw new Error(`${stderr}${members.map(({ output }) => output.slice(-500)).join('\n')}`);
        return `${stdout}${stderr}`;
      },
      60_000,
    );
    assert.equal(shown.match(/is healthy/g)?.length, 3);
    const exports = script
      .split('\n')
      .filter((line) => line.startsWith('export'))
      .join('\n');
    const { code, stderr } = await host.run('sh', ['-ec', `${exports}\n${blockNamed('etcdctl user add')}`]);
    assert.equal(code, 0, stderr);
    const { stdout } = await host.run('sh', ['-ec', `${exports}\netcdctl role get virtlockd`]);
    assert.match(stdout, /\/virtlockd/);
  });
});
