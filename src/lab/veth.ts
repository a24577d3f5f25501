/** Network namespaces of one machine with a link between each and the first: what a network does to a client, while all processes go on. */
import { readlinkSync } from 'node:fs';
import { eventually, type Running } from './process.ts';
import type { Lab } from './root.ts';

/** Of all hubs: each link is in a subnet of its own. */
const subnet = (number: number): string => `10.77.${number}`;

const namespaceOf = (pid: number | 'self'): string => readlinkSync(`/proc/${pid}/ns/net`);

async function openNamespace(lab: Lab): Promise<Running> {
  const holder = lab.spawn('unshare', ['--net', 'sleep', 'infinity']);
  const outer = namespaceOf('self');
  await eventually('there is a network namespace', () => namespaceOf(holder.pid) !== outer);
  return holder;
}

async function must(lab: Lab, ...words: readonly string[]): Promise<void> {
  const [program = '', ...args] = words;
  const { code, stderr } = await lab.run(program, args);
  if (code !== 0) throw new Error(`${words.join(' ')}: ${stderr}`);
}

/** Words before a command that is to run in the namespace of a process. */
const within = ({ pid }: Running): string[] => ['nsenter', '--target', String(pid), '--net', '--'];

export class Spoke {
  /** Where the hub is for those at this end. */
  readonly hubAddress: string;
  /** Words before a command that is to run at this end. */
  readonly words: readonly string[];
  private readonly lab: Lab;
  private readonly hub: readonly string[];
  private readonly device: string;

  constructor(lab: Lab, hub: readonly string[], holder: Running, number: number) {
    this.lab = lab;
    this.hub = hub;
    this.words = within(holder);
    this.hubAddress = `${subnet(number)}.1`;
    this.device = `veth${number}`;
  }

  /** Nothing passes, and neither end is told. */
  async cut(): Promise<void> {
    await must(this.lab, ...this.hub, 'ip', 'link', 'set', this.device, 'down');
  }

  async mend(): Promise<void> {
    await must(this.lab, ...this.hub, 'ip', 'link', 'set', this.device, 'up');
  }
}

export class Hub {
  /** Words before a command that is to run there. */
  readonly words: readonly string[];
  private readonly lab: Lab;
  private readonly holder: Running;
  private readonly holders: Running[];
  private count = 0;

  private constructor(lab: Lab, holder: Running) {
    this.lab = lab;
    this.holder = holder;
    this.holders = [holder];
    this.words = within(holder);
  }

  static async open(lab: Lab): Promise<Hub> {
    return new Hub(lab, await openNamespace(lab));
  }

  /** A new namespace with a link to this one. */
  async connect(): Promise<Spoke> {
    const number = ++this.count;
    const end = await openNamespace(this.lab);
    this.holders.push(end);
    const device = `veth${number}`;
    const { lab, words } = this;
    const pids = [this.holder, end].map(({ pid }) => String(pid));
    await must(
      lab,
      'ip',
      'link',
      'add',
      device,
      'netns',
      pids[0] ?? '',
      'type',
      'veth',
      'peer',
      'eth0',
      'netns',
      pids[1] ?? '',
    );
    for (const [at, name, address] of [
      [words, device, 1],
      [within(end), 'eth0', 2],
    ] as const) {
      await must(lab, ...at, 'ip', 'address', 'add', `${subnet(number)}.${address}/24`, 'dev', name);
      await must(lab, ...at, 'ip', 'link', 'set', name, 'up');
    }
    return new Spoke(lab, words, end, number);
  }

  /** The namespaces go with the last process in them. */
  async close(): Promise<void> {
    for (const holder of this.holders) await holder.stop('SIGKILL');
  }
}
