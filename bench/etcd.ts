/**
 * `npm run bench:etcd`: ACQUIRE and RELEASE of a lock in etcd beside the same two transactions, sent to etcd directly from the same host, in
 * turns; how many keepalives etcd gets from a host with one lock, and from one with a thousand; and how long another client waits for its
 * answers beside a thousand such calls. Three members and a host, each in a network namespace. Wants root, etcd-server and etcd-client.
 */
import http from 'node:http';
import { join } from 'node:path';
import { EtcdLab } from '../src/lab/etcd-cluster.ts';
import { eventually } from '../src/lab/process.ts';
import { missingCluster } from '../src/lab/requirements.ts';
import type { NetworkHost } from '../src/lab/network.ts';
import type { Lab } from '../src/lab/root.ts';
import { startDaemon } from '../src/lab/start.ts';
import { checkout } from '../src/lab/trees.ts';
import { lock, Peer } from '../src/lab/wire.ts';
import { short, shortSpread, spread } from './report.ts';

const SELF = join(checkout, 'bench/etcd.ts');
const LOCKSPACE = '/var/lib/libvirt/lockd/etcd';
const CALLS = Number(process.env.CALLS ?? 300);
const ROUNDS = Number(process.env.ROUNDS ?? 5);
/** How long keepalives are counted, and the lease, both in seconds. */
const COUNTED = Number(process.env.COUNTED ?? 15);
const LEASE = 8;
const MANY = 1000;
/** Beside another client: calls in all, and at a time. */
const CROWD = 1000;
const AT_ONCE = 50;
const AUTOCREATE = 2;
/** Where the members have their data: on this machine's disk, as in service, or in memory. */
const IS_ON_DISK = process.env.DATA !== 'memory';

type Json = Readonly<Record<string, unknown>>;
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Sends plain transactions, and prints the milliseconds of each pair of them. */
async function plain(url: string, count: number): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const post = async (path: string, body: Json): Promise<Json> =>
    new Promise((resolve, reject) => {
      const request = http.request(`${url}${path}`, { method: 'POST', agent }, (answer) => {
        let text = '';
        answer.on('data', (data: Buffer) => (text += data.toString()));
        answer.on('end', () => {
          resolve(JSON.parse(text) as Json);
        });
      });
      request.on('error', reject);
      request.end(JSON.stringify(body));
    });
  const { ID: lease } = await post('/v3/lease/grant', { TTL: '60' });
  const times: number[] = [];
  for (let index = -10; index < count; index++) {
    const key = base64(`/plain/${index}`);
    const began = performance.now();
    const compare = { target: 'CREATE', result: 'EQUAL', create_revision: '0', key };
    const value = base64('x'.repeat(200));
    const made = await post('/v3/kv/txn', { compare: [compare], success: [{ request_put: { key, value, lease } }] });
    const revision = (made.header as Json).revision;
    const same = { target: 'CREATE', result: 'EQUAL', create_revision: revision, key };
    await post('/v3/kv/txn', { compare: [same], success: [{ request_delete_range: { key } }] });
    if (index >= 0) times.push(performance.now() - began);
  }
  process.stdout.write(JSON.stringify(times));
  agent.destroy();
}

/** Prints how many keepalives the members have got. */
async function keepalives(urls: readonly string[]): Promise<void> {
  let count = 0;
  for (const url of urls) {
    const text = await (await fetch(`${url}/metrics`)).text();
    for (const [, number] of text.matchAll(
      /^grpc_server_msg_received_total\{.*grpc_method="LeaseKeepAlive".*\} (\S+)$/gm,
    ))
      count += Number(number);
  }
  process.stdout.write(String(count));
}

async function owner(lab: Lab, socket: string): Promise<Peer> {
  const peer = await Peer.connect(socket);
  await peer.must(lock.register({ pid: lab.spawn('sleep', ['1000']).pid }));
  return peer;
}

async function pair(peer: Peer, name: string): Promise<number> {
  const began = performance.now();
  await peer.must(lock.acquire(LOCKSPACE, name, AUTOCREATE));
  await peer.must(lock.release(LOCKSPACE, name));
  return performance.now() - began;
}

/** How many keepalives etcd gets while `peer` holds so many locks. */
async function countKeepalives(
  { lab }: NetworkHost,
  urls: readonly string[],
  peer: Peer,
  locks: number,
): Promise<number> {
  for (let index = 0; index < locks; index++) await peer.must(lock.acquire(LOCKSPACE, `held-${index}`, AUTOCREATE));
  const read = async (): Promise<number> => {
    const { stdout, stderr } = await lab.run(join(checkout, 'scripts/node'), [SELF, 'keepalives', urls.join()]);
    if (stdout === '') throw new Error(stderr);
    return Number(stdout);
  };
  const before = await read();
  await new Promise((resolve) => setTimeout(resolve, COUNTED * 1000));
  const count = (await read()) - before;
  for (let index = 0; index < locks; index++) await peer.must(lock.release(LOCKSPACE, `held-${index}`));
  return count;
}

/** How long calls of a client last that need nothing of etcd, until `work` is done. */
async function waits(peer: Peer, work: Promise<unknown>): Promise<number[]> {
  const state = { isDone: false };
  void work.then(() => (state.isDone = true));
  const times: number[] = [];
  while (!state.isDone) {
    const began = performance.now();
    await peer.ask(lock.release('', '/none'));
    times.push(performance.now() - began);
  }
  return times;
}

const percentile = (times: readonly number[], part: number): number =>
  times.toSorted((one, other) => one - other)[Math.min(Math.floor(times.length * part), times.length - 1)] ?? NaN;

function printWaits(what: string, times: readonly number[]): void {
  const [median, most, worst] = [percentile(times, 0.5), percentile(times, 0.99), Math.max(...times)].map(short);
  process.stdout.write(`${what.padEnd(44)} median ${median} ms, 99 % ${most} ms, longest ${worst} ms\n`);
}

async function measure(): Promise<void> {
  const missing = missingCluster();
  if (missing !== undefined) throw new Error(missing);
  const cluster = await EtcdLab.open({ hosts: 1, isOnDisk: IS_ON_DISK });
  try {
    const [host] = cluster.hosts;
    const [url = ''] = cluster.endpoints;
    if (host === undefined) throw new Error('no host');
    const { lab } = host;
    const list = cluster.endpoints.map((endpoint) => `"${endpoint}"`).join();
    const configuration = `etcd_endpoints = [ ${list} ]\netcd_lease_seconds = ${LEASE}\n`;
    const daemon = await startDaemon('ours', { lab, configuration });
    const peer = await owner(lab, daemon.socket);
    await peer.must(lock.createLockspace(LOCKSPACE));
    await eventually('the host has a lease', async () => (await pair(peer, 'first')) > 0);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const words = [SELF, 'plain', url, String(CALLS)];
      const { stdout, stderr } = await lab.run(join(checkout, 'scripts/node'), words);
      if (stdout === '') throw new Error(stderr);
      theirs.push(spread(JSON.parse(stdout) as number[]).median);
      const times: number[] = [];
      for (let index = 0; index < CALLS; index++) times.push(await pair(peer, `r${index}`));
      ours.push(spread(times).median);
    }
    const ratio = spread(ours).median / spread(theirs).median;
    const where = IS_ON_DISK ? 'on disk' : 'in memory';
    process.stdout.write(`medians of ${CALLS} calls, ${ROUNDS} rounds in turns; the members' data are ${where}\n`);
    process.stdout.write(`two transactions, sent to etcd             ${shortSpread(spread(theirs))} ms\n`);
    process.stdout.write(
      `ACQUIRE and RELEASE                        ${shortSpread(spread(ours))} ms: ${ratio.toFixed(2)} times\n`,
    );
    for (const locks of [1, MANY]) {
      const count = await countKeepalives(host, cluster.endpoints, peer, locks);
      const per = (COUNTED / count).toFixed(2);
      process.stdout.write(`${`keepalives in ${COUNTED} s, ${locks} held`.padEnd(43)}${count}, one every ${per} s\n`);
    }
    const other = await Peer.connect(daemon.socket);
    await other.must(lock.register({ pid: lab.spawn('sleep', ['1000']).pid }));
    const idle = new Promise((resolve) => setTimeout(resolve, 2000));
    printWaits('another client, nobody else calls', await waits(other, idle));
    const crowd: Peer[] = [];
    for (let index = 0; index < AT_ONCE; index++) crowd.push(await owner(lab, daemon.socket));
    const work = Promise.all(
      crowd.map(async (one, index) => {
        for (let call = 0; call < CROWD / AT_ONCE; call++) await pair(one, `crowd-${index}-${call}`);
      }),
    );
    printWaits(`another client, beside ${CROWD} calls, ${AT_ONCE} at a time`, await waits(other, work));
  } finally {
    await cluster.close();
  }
}

const [, , what, url = '', count = ''] = process.argv;
if (what === 'plain') await plain(url, Number(count));
else if (what === 'keepalives') await keepalives(url.split(','));
else await measure();
// Owners' connections are open still.
process.exit();
