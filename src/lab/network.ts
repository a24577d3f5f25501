/** A network of private roots, each a host of its own on one bridge, and what can go wrong with it. */
import type { Lab } from './root.ts';

/** Hosts have addresses in it from 1 on. */
const SUBNET = '10.77.0';

export const addressOf = (host: number): string => `${SUBNET}.${host}`;

/** Packets of a host that are dropped. */
export type Direction = 'in' | 'out' | 'both';

/** @throws Error with what the program said */
async function must(lab: Lab, program: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.run(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

/** A private root without a network of its own becomes a host. */
export class NetworkHost {
  readonly lab: Lab;
  readonly number: number;
  readonly address: string;

  constructor(lab: Lab, number: number) {
    this.lab = lab;
    this.number = number;
    this.address = addressOf(number);
  }

  /** Drops packets between this host and those: as a firewall does, without a word to either side. */
  async cut(others: readonly NetworkHost[], direction: Direction = 'both'): Promise<void> {
    if (others.length === 0) return;
    const all = others.map(({ address }) => address).join();
    if (direction !== 'out') await must(this.lab, 'iptables', '-w', '-A', 'INPUT', '-s', all, '-j', 'DROP');
    if (direction !== 'in') await must(this.lab, 'iptables', '-w', '-A', 'OUTPUT', '-d', all, '-j', 'DROP');
  }

  /** Sends at most so many kilobits a second, of which so many milliseconds' worth may wait before packets are dropped. */
  async slow(kilobits: number, milliseconds: number): Promise<void> {
    const queue = ['tbf', 'rate', `${kilobits}kbit`, 'burst', '3000', 'latency', `${milliseconds}ms`];
    await must(this.lab, 'tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', ...queue);
  }

  /**
   * From now on, those send what this host has not acknowledged again after so many milliseconds, then after three times and seven times as
   * many since the first time. TCP's own time would be 200 ms, or more on a slow link.
   */
  async sendAgainAfter(others: readonly NetworkHost[], milliseconds: number): Promise<void> {
    const time = `${Math.round(milliseconds)}ms`;
    for (const { lab } of others)
      await must(lab, 'ip', 'route', 'replace', `${this.address}/32`, 'dev', 'eth0', 'rto_min', time);
  }

  /** Keeps answers of those from this host, which can still connect to them and ask. After {@link deliver} they come when they are sent again. */
  async withhold(others: readonly NetworkHost[]): Promise<void> {
    const all = others.map(({ address }) => address).join();
    // Segments with data; those without make connections and acknowledge.
    const answers = ['-s', all, '-p', 'tcp', '--tcp-flags', 'PSH', 'PSH'];
    await must(this.lab, 'iptables', '-w', '-A', 'INPUT', ...answers, '-j', 'DROP');
  }

  /** Drops nothing any more of what comes to this host. */
  async deliver(): Promise<void> {
    await must(this.lab, 'iptables', '-w', '-F', 'INPUT');
  }

  /** Ends all that {@link cut}, {@link withhold} and {@link slow} have done. */
  async heal(): Promise<void> {
    await must(this.lab, 'iptables', '-w', '-F');
    // Fails where there is none.
    await this.lab.run('tc', ['qdisc', 'del', 'dev', 'eth0', 'root']);
  }
}

/** The bridge, in a network namespace of its own. */
export class Network {
  private readonly bridge: Lab;

  private constructor(bridge: Lab) {
    this.bridge = bridge;
  }

  /** @param bridge a private root that was opened offline */
  static async open(bridge: Lab): Promise<Network> {
    await must(bridge, 'ip', 'link', 'add', 'br0', 'type', 'bridge');
    await must(bridge, 'ip', 'link', 'set', 'br0', 'up');
    return new Network(bridge);
  }

  /** @param lab opened offline */
  async attach(lab: Lab, number: number): Promise<NetworkHost> {
    const host = new NetworkHost(lab, number);
    const port = `port${number}`;
    const { bridge } = this;
    const peer = ['peer', 'name', 'eth0', 'netns', String(lab.holder)];
    await must(bridge, 'ip', 'link', 'add', port, 'type', 'veth', ...peer);
    await must(bridge, 'ip', 'link', 'set', port, 'master', 'br0', 'up');
    await must(lab, 'ip', 'link', 'set', 'lo', 'up');
    await must(lab, 'ip', 'address', 'add', `${host.address}/24`, 'dev', 'eth0');
    await must(lab, 'ip', 'link', 'set', 'eth0', 'up');
    return host;
  }
}
