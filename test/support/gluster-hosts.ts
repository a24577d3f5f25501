/** Two hosts, node7 and node8, each with a mount of one GlusterFS of its own. */
import assert from 'node:assert/strict';
import { Gluster } from '../../src/lab/gluster.ts';
import { Host } from './host.ts';

interface GlusterHostsOptions {
  /** Further settings of each host's daemon. */
  readonly configurations?: readonly [string, string];
  /** The first host reaches the server over a network, which can be cut. */
  readonly overNetwork?: boolean;
}

export class GlusterHosts {
  readonly gluster: Gluster;
  readonly one: Host;
  readonly two: Host;

  private constructor(gluster: Gluster, one: Host, two: Host) {
    this.gluster = gluster;
    this.one = one;
    this.two = two;
  }

  static async start({
    configurations = ['', ''],
    overNetwork = false,
  }: GlusterHostsOptions = {}): Promise<GlusterHosts> {
    const hosts: Host[] = [];
    let gluster: Gluster | undefined;
    try {
      const one = await Host.start('node7', {
        configuration: configurations[0],
        mount: async (lab) => {
          gluster = await Gluster.start(lab, { overNetwork });
        },
      });
      hosts.push(one);
      const two = await Host.start('node8', {
        configuration: configurations[1],
        share: [one.daemon.lab.directory],
        mount: async (lab) => gluster?.mountIn(lab),
      });
      hosts.push(two);
      assert(gluster !== undefined);
      return new GlusterHosts(gluster, one, two);
    } catch (error) {
      await end(gluster, hosts);
      throw error;
    }
  }

  async end(): Promise<void> {
    await end(this.gluster, [this.one, this.two]);
  }
}

async function end(gluster: Gluster | undefined, hosts: readonly Host[]): Promise<void> {
  for (const host of hosts) await host.daemon.stop();
  await gluster?.end();
  // The first one's directory has the storage of both.
  for (const host of hosts.toReversed()) await host.daemon.lab.close();
}
