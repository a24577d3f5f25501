/** Both daemons started in every way: exit codes, what they print, what they log and leave behind are the same. */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { install, programOf } from '../lab/daemon.ts';
import { eventually, type Running } from '../lab/process.ts';
import { missingDaemon, skipIf } from '../lab/requirements.ts';
import { Lab, ordinaryUser } from '../lab/root.ts';
import { type CliCase, cliCases } from './cli-cases.ts';

const PROGRAM = '/usr/sbin/virtlockd';

interface Outcome {
  /** `serves`, or the exit code. */
  result: string;
  /** How it ended after SIGTERM, when it served. */
  ended?: number | null;
  stdout: string;
  stderr: string;
  /** Of a daemonized one. */
  log: string;
  /** Modes and names while it served, and at the end. */
  files: string[];
  left: string[];
}

/** Text without what is truly variable, or says more than C says. */
function masked(text: string): string {
  return text
    .replace(/^Options of this implementation:\n(?: .*\n)*\n/gm, '')
    .replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: \d+: /gm, 'LINE: ')
    .replace(/^LINE: (?:info|debug) : .*\n/gm, '')
    .replace(/^(LINE: \w+ : )[^ ]+:\d+ : /gm, '$1');
}

function modeOf(path: string): string {
  const { mode } = lstatSync(path);
  return mode.toString(8);
}

/** The inodes of the sockets that a process has open. */
function descriptorsOf(pid: number): Set<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // Closed meanwhile.
    }
  }
  return inodes;
}

/** One daemon's way through the cases: a lab of its own, made as new between them. */
class Starter {
  readonly #lab: Lab;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  async run(one: CliCase): Promise<Outcome> {
    const lab = this.#lab;
    await this.#shell(
      // Not beyond the lab's own file system: the checkout may be mounted anywhere in it.
      'rm -rf --one-file-system /run/* /run/.[a-z]*; mkdir -p /run/labuser/runtime /var/log/libvirt; rm -f /var/log/libvirt/*',
    );
    await this.#shell('chown -R 47110:47110 /run/labuser; chmod 700 /run/labuser/runtime');
    lab.write('/etc/libvirt/virtlockd.conf', 'libvirt_version = "9.0.0"\n');
    if (one.config !== undefined) lab.write('/run/test.conf', Buffer.from(one.config, 'latin1'));
    if (one.prepare !== undefined) await this.#shell(one.prepare);
    const other = one.second === true ? await this.#serving(this.#start({ ...one, args: [] })) : undefined;
    try {
      return await this.#observe(one);
    } finally {
      await other?.stop();
    }
  }

  #start(one: CliCase): Running {
    return this.#lab.spawn(
      one.program ?? PROGRAM,
      [...one.args, ...(one.config === undefined ? [] : ['-f', '/run/test.conf'])],
      {
        ordinary: one.ordinary === true,
        ...(one.env === undefined ? {} : { env: one.env }),
      },
    );
  }

  async #observe(one: CliCase): Promise<Outcome> {
    const running = this.#start(one);
    const outcome: Outcome = { result: '', stdout: '', stderr: '', log: '', files: [], left: [] };
    const daemonizes = one.args.some((word) => /^-[vd]*d/.test(word));
    const endsByItself = daemonizes || one.args.some((word) => word === '1' || word === '--t=1');
    await (endsByItself ? running.exited : this.#serving(running));
    const pid = daemonizes && running.finished?.code === 0 && one.second !== true ? this.#daemonPid() : undefined;
    if (running.finished === undefined) {
      outcome.result = 'serves';
      outcome.files = this.#files();
      outcome.ended = (await running.stop()).code;
    } else outcome.result = String(running.finished.code);
    if (pid !== undefined) {
      outcome.files = this.#files();
      process.kill(pid);
      await eventually('the daemon ends', () => !existsSync(`/proc/${pid}`));
    }
    // C's child tells its parent that it failed, and cleans up after that.
    if (daemonizes)
      await eventually('the pid file is gone', () => one.second === true || this.#pidFile() === undefined);
    const { stdout, stderr } = await running.exited;
    outcome.stdout = masked(stdout);
    outcome.stderr = masked(stderr);
    const log = this.#lab.outside('/var/log/libvirt/virtlockd.log');
    if (existsSync(log)) outcome.log = masked(readFileSync(log, 'latin1'));
    outcome.left = this.#files();
    return outcome;
  }

  /** Waits until that process serves or has ended. */
  async #serving(running: Running): Promise<Running> {
    const sockets = ['/run/libvirt', join(ordinaryUser.runtime, 'libvirt'), join(ordinaryUser.home, '.cache/libvirt')];
    await eventually('the daemon serves or ends', () => {
      if (running.finished !== undefined) return true;
      const listening = readFileSync(`/proc/${running.pid}/net/unix`, 'latin1');
      const inodes = descriptorsOf(running.pid);
      return listening
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .some(([, , , flags, , , inode = '', path = '']) => {
          const isOurs = sockets.some((directory) => path === `${directory}/virtlockd-admin-sock`);
          return flags === '00010000' && isOurs && inodes.has(inode);
        });
    });
    return running;
  }

  /** The pid that a daemonized one wrote down. */
  #daemonPid(): number | undefined {
    const file = this.#pidFile();
    return file === undefined ? undefined : Number(readFileSync(file, 'latin1'));
  }

  #pidFile(): string | undefined {
    const files = ['/run/virtlockd.pid', '/run/other.pid', join(ordinaryUser.runtime, 'libvirt/virtlockd.pid')];
    return files.map((path) => this.#lab.outside(path)).find((path) => existsSync(path));
  }

  /** Type, mode and path of all below /run. */
  #files(): string[] {
    const walk = (directory: string): string[] =>
      readdirSync(this.#lab.outside(directory), { withFileTypes: true }).flatMap((entry) => {
        const path = `${directory}/${entry.name}`;
        return [path, ...(entry.isDirectory() ? walk(path) : [])];
      });
    return walk('/run')
      .map((path) => `${modeOf(this.#lab.outside(path))} ${path}`)
      .sort();
  }

  async #shell(script: string): Promise<void> {
    await this.#lab.run('/bin/sh', ['-c', script]);
  }
}

describe('the command line of both daemons', () => {
  const kinds = ['9.0.0', 'ours'] as const;
  const labs: Lab[] = [];
  let starters: Starter[] = [];

  before(async function () {
    skipIf(this, missingDaemon('9.0.0'), missingDaemon('ours'));
    for (const kind of kinds) {
      const lab = await Lab.open('9.0.0');
      labs.push(lab);
      if (kind === 'ours') install(lab, programOf('ours'), PROGRAM);
    }
    starters = labs.map((lab) => new Starter(lab));
  });

  after(async () => {
    for (const lab of labs) await lab.close();
  });

  for (const one of cliCases) {
    it(one.name, async () => {
      const [theirs, ours] = await Promise.all(starters.map(async (starter) => starter.run(one)));
      assert.deepEqual(ours, theirs);
    });
  }
});
