/** etcd behind TLS, with certificates of clients, and with users. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { EtcdError, Gateway } from '../../../src/etcd/gateway.ts';
import { Etcd } from '../../../src/etcd/operations.ts';
import { DEFAULT_ETCD, type EtcdSettings } from '../../../src/etcd/settings.ts';
import { EtcdMember } from '../../../src/lab/etcd.ts';
import { eventually } from '../../../src/lab/process.ts';
import { missingDaemon, missingEtcd, onPath } from '../../../src/lab/requirements.ts';
import { type LockDaemon, reexecute } from '../../../src/lab/start.ts';
import { autocreate, lock } from '../../../src/lab/wire.ts';
import { childrenOf } from '../../../src/proc/processes.ts';
import { skipIf } from '../../support/skip.ts';
import { temporaryDirectory } from '../../unit/support/locks.ts';
import { EtcdScene, SPACE, type SceneOptions } from './scene.ts';

const UNREACHABLE = 38;
const take = (name = 'disk'): ReturnType<typeof lock.acquire> => lock.acquire(SPACE, name, autocreate);
const give = (name = 'disk'): ReturnType<typeof lock.release> => lock.release(SPACE, name);

/** A CA, and certificates of it; another one, which nobody knows. */
const SCRIPT = `
authority() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"
}
certify() {
  openssl req -newkey rsa:2048 -nodes -subj "/$3=$2" -keyout "$2.key" -out "$2.csr"
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > "$2.ext"
  openssl x509 -req -in "$2.csr" -CA "$1.crt" -CAkey "$1.key" -CAcreateserial -days 2 -extfile "$2.ext" -out "$2.crt"
}
authority ca
authority other-ca
certify ca member CN
certify ca host O
certify ca renewed CN
certify other-ca stranger O
`;

describe('etcd behind TLS', function () {
  this.timeout(60_000);
  let directory: ReturnType<typeof temporaryDirectory>;
  let server: Server | undefined;
  const path = (name: string): string => join(directory.path, name);
  /** The member's. */
  const tls = (): { ca: string; cert: string; key: string } => ({
    ca: path('ca.crt'),
    cert: path('member.crt'),
    key: path('member.key'),
  });
  const secure = (): Pick<SceneOptions, 'tls' | 'share'> => ({ tls: tls(), share: [directory.path] });
  const lines = (ca: string, cert: string): string =>
    `etcd_ca_file = "${path(`${ca}.crt`)}"\netcd_cert_file = "${path(`${cert}.crt`)}"\netcd_key_file = "${path(`${cert}.key`)}"\n`;

  before(function () {
    const openssl = onPath('openssl') ? undefined : 'openssl is not installed (package openssl)';
    skipIf(this, missingDaemon('ours'), missingEtcd(), openssl);
    directory = temporaryDirectory();
    execFileSync('sh', ['-ec', SCRIPT], { cwd: directory.path, stdio: 'pipe' });
  });

  afterEach(async () => {
    server?.closeAllConnections();
    server?.close();
    server = undefined;
    await EtcdScene.closeAll();
  });

  after(() => {
    directory.remove();
  });

  function enableUsers(member: EtcdMember): void {
    for (const args of [
      'user add root:rootword',
      'user grant-role root root',
      'user add lock:the-pass-word',
      'role add lock',
      'role grant-permission lock --prefix=true readwrite /virtlockd',
      'user grant-role lock lock',
      'auth enable',
    ])
      assert.equal(member.ctl(...args.split(' ')).status, 0, args);
  }

  it('grants and releases locks with certificates and a user, whose password is nowhere to be read', async () => {
    const word = 'the-pass-word';
    const configuration = `${lines('ca', 'host')}etcd_user = "lock"\netcd_password = "${word}"\n`;
    const scene = await EtcdScene.open({ ...secure(), seconds: 9, configuration });
    enableUsers(scene.member);
    const daemon = await scene.daemon();
    const peer = await scene.join(daemon);
    await peer.must(take());
    await peer.must(give());
    await peer.must(take());
    await reexecute(daemon);
    await peer.must(give());
    await peer.must(take());
    assert.equal(daemon.log.includes(word), false);
    for (const pid of family(daemon.pid))
      for (const file of ['cmdline', 'environ'])
        assert.equal(readFileSync(`/proc/${pid}/${file}`, 'latin1').includes(word), false, `${file} of ${pid}`);
    const document = await documentOf(daemon);
    assert.match(document, /"etcd":/);
    assert.equal(document.includes(word), false);
  });

  for (const [what, ca, cert, message] of [
    ['a CA that has not signed the member', 'other-ca', 'host', /certificates do not fit \(etcd_ca_file.*certificate/],
    ['a certificate of another CA', 'ca', 'stranger', /certificates do not fit \(etcd_ca_file.*alert/],
  ] as const) {
    it(`says what is wrong with ${what}`, async () => {
      const scene = await EtcdScene.open({ ...secure(), seconds: 9, configuration: lines(ca, cert) });
      const peer = await scene.join(await scene.daemon());
      const error = await peer.ask(take());
      assert.equal(error?.code, UNREACHABLE);
      assert.match(error.message ?? '', message);
    });
  }

  it('says that the password is wrong, and goes on with the right one of the configuration after a restart', async () => {
    const file = path('password');
    writeFileSync(file, 'wrong\n');
    const configuration = `${lines('ca', 'host')}etcd_user = "lock"\netcd_password_file = "${file}"\n`;
    const scene = await EtcdScene.open({ ...secure(), seconds: 9, configuration });
    enableUsers(scene.member);
    const daemon = await scene.daemon();
    const peer = await scene.join(daemon);
    const error = await peer.ask(take());
    assert.equal(error?.code, UNREACHABLE);
    assert.match(error.message ?? '', /etcd refuses user and password: .*authentication failed/);
    writeFileSync(file, 'the-pass-word\n');
    await eventually('a lock is granted', async () => (await peer.ask(take())) === undefined);
    // Another password while a lock is held: the settings stay, but for what the host proves itself with.
    daemon.lab.write(
      daemon.lab.configuration,
      scene.configuration.replace(/etcd_password_file.*/, 'etcd_password = "the-pass-word"'),
    );
    writeFileSync(file, 'wrong again\n');
    await reexecute(daemon);
    assert.doesNotMatch(daemon.log, /The settings of etcd stay as they were/);
    await eventually('another lock is granted', async () => (await peer.ask(take('another'))) === undefined);
    await peer.must(give());
  });

  it('says that a certificate with a common name does not go with a user', async () => {
    const member = await EtcdMember.start({ tls: tls() });
    try {
      enableUsers(member);
      const user = { user: 'lock', password: 'the-pass-word' };
      const etcd = new Etcd(new Gateway({ ...settingsWith([member.endpoint], 'ca', 'renewed'), ...user }));
      await assert.rejects(
        etcd.run('grant', { seconds: 60 }, 3000),
        /certificate with a common name: make that of etcd_cert_file/,
      );
    } finally {
      await member.close();
    }
  });

  const settingsWith = (endpoints: string[], ca = 'ca', cert = 'host'): EtcdSettings => ({
    ...DEFAULT_ETCD,
    endpoints,
    caFile: path(`${ca}.crt`),
    certFile: path(`${cert}.crt`),
    keyFile: path(`${cert}.key`),
  });

  it('goes on with the other members when the certificate of one does not fit', async () => {
    const member = await EtcdMember.start({ tls: tls() });
    try {
      server = createServer({ cert: readFileSync(path('stranger.crt')), key: readFileSync(path('stranger.key')) });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const unfit = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const etcd = new Etcd(new Gateway(settingsWith([unfit, member.endpoint])));
      const { lease } = await etcd.run('grant', { seconds: 60 }, 3000);
      assert.equal((await etcd.run('keepAlive', { lease }, 3000)).seconds, 60);
    } finally {
      await member.close();
    }
  });

  it('takes certificates that are renewed, also when they could not be read at first', async () => {
    const member = await EtcdMember.start({ tls: tls() });
    try {
      const gateway = new Gateway(settingsWith([member.endpoint], 'ca', 'current'));
      const etcd = new Etcd(gateway);
      const grant = async (): Promise<string> => (await etcd.run('grant', { seconds: 60 }, 3000)).lease;
      await assert.rejects(grant(), (error: EtcdError) => error.message.startsWith('etcd_cert_file: ENOENT'));
      const replace = (cert: string): void => {
        for (const ending of ['crt', 'key']) copyFileSync(path(`${cert}.${ending}`), path(`current.${ending}`));
      };
      replace('stranger');
      await assert.rejects(grant(), /certificates do not fit/);
      replace('renewed');
      const lease = await eventually('the renewed one counts', async () => grant().catch(() => undefined), 15_000);
      // One that is half written is left alone.
      writeFileSync(path('current.crt'), '-----BEGIN');
      assert.equal((await etcd.run('keepAlive', { lease }, 3000)).seconds, 60);
    } finally {
      await member.close();
    }
  });
});

/** A daemon and its children. */
function family(pid: number): number[] {
  return [pid, ...childrenOf(pid)];
}

/** The state document, as it is while the next program is tried. */
async function documentOf(daemon: LockDaemon): Promise<string> {
  const file = daemon.lab.outside('/run/virtlockd-restart-exec.json.new');
  const restarted = reexecute(daemon);
  const text = await eventually('the document is written', () => {
    const found = readFileSync(file, 'utf8');
    JSON.parse(found);
    return found;
  });
  await restarted;
  return text;
}
