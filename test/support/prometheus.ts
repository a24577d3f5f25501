/** A real Prometheus, which scrapes `virt-lockctl serve` every second and evaluates the package's alert rules. */
import { cpSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { once } from 'node:events';
import { onPath } from '../../src/lab/requirements.ts';
import { eventually, GivenUp, type Running } from '../../src/lab/process.ts';
import type { Lab } from '../../src/lab/root.ts';
import { checkout } from '../../src/lab/trees.ts';

export const monitoring = join(checkout, 'packaging/monitoring');
const TOKEN = 'a-token-of-at-least-22-letters';

export interface Rule {
  readonly name: string;
  readonly health: string;
  readonly state: string;
  readonly lastError?: string;
}

interface Answer {
  readonly status: string;
  readonly data: {
    readonly result: readonly { readonly metric: Record<string, string>; readonly value: readonly [number, string] }[];
    readonly groups: readonly { readonly rules: readonly Rule[] }[];
  };
}

/** Why none can be run, or undefined. */
export function missingPrometheus(): string | undefined {
  return onPath('prometheus') ? undefined : 'prometheus is not installed (package prometheus)';
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export class Prometheus {
  /** The address of the page. */
  readonly page: string;
  private readonly base: string;
  private readonly running: readonly Running[];

  private constructor(page: string, base: string, running: readonly Running[]) {
    this.page = page;
    this.base = base;
    this.running = running;
  }

  /** Returns when it has scraped twice. */
  static async start(lab: Lab): Promise<Prometheus> {
    const [port, own] = [await freePort(), await freePort()];
    const file = (name: string): string => join(lab.directory, name);
    writeFileSync(file('token'), `${TOKEN}\n`, { mode: 0o600 });
    const words = ['serve', '--port', String(port), '--token-file', file('token')];
    const server = lab.spawn(join(checkout, 'bin/virt-lockctl'), words);
    await eventually('the page is served', () => server.output.includes(`/${TOKEN}/`), 20_000);
    cpSync(join(monitoring, 'virtlockd.rules.yml'), file('virtlockd.rules.yml'));
    const configuration = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ['virtlockd.rules.yml'],
      scrape_configs: [
        {
          job_name: 'virtlockd',
          authorization: { credentials_file: 'token' },
          static_configs: [{ targets: [`127.0.0.1:${port}`] }],
        },
      ],
    };
    // JSON is YAML.
    writeFileSync(file('prometheus.yml'), JSON.stringify(configuration));
    const process = lab.spawn('prometheus', [
      `--config.file=${file('prometheus.yml')}`,
      `--storage.tsdb.path=${file('tsdb')}`,
      `--web.listen-address=127.0.0.1:${own}`,
    ]);
    const prometheus = new Prometheus(`http://127.0.0.1:${port}/${TOKEN}/`, `http://127.0.0.1:${own}`, [
      process,
      server,
    ]);
    await eventually(
      'Prometheus has scraped twice',
      async () => {
        if (process.finished !== undefined) throw new GivenUp(process.output);
        const scraped = await prometheus.value('count_over_time(virtlockd_up[1m])').catch(() => undefined);
        return Number(scraped) >= 2;
      },
      60_000,
    );
    return prometheus;
  }

  async stop(): Promise<void> {
    for (const one of this.running) await one.stop();
  }

  async ask(path: string, parameters: Record<string, string> = {}): Promise<Answer> {
    const response = await fetch(`${this.base}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`);
    return (await response.json()) as Answer;
  }

  async value(query: string): Promise<string | undefined> {
    return (await this.ask('query', { query })).data.result[0]?.value[1];
  }

  async until(query: string, wanted: string): Promise<void> {
    await eventually(`${query} is ${wanted}`, async () => (await this.value(query)) === wanted, 30_000);
  }

  async rules(): Promise<readonly Rule[]> {
    return (await this.ask('rules')).data.groups.flatMap((group) => group.rules);
  }

  /** Waits until the condition of an alert holds, be it for as long as its rule has it or not, or does not. */
  async untilAlert(alert: string, holds: boolean): Promise<void> {
    await eventually(
      `${alert} ${holds ? 'fires' : 'is over'}`,
      async () => {
        const state = (await this.rules()).find(({ name }) => name === alert)?.state;
        return holds ? state === 'pending' || state === 'firing' : state === 'inactive';
      },
      30_000,
    );
  }
}
