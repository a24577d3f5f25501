/** Starts a daemon as a case says, and describes the outcome. */
import { existsSync, lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PROGRAM } from '../../../../libvirt/paths.ts';
import type { Place } from '../../../../lab/place.ts';
import { ordinaryUser } from '../../../../lab/root.ts';
import { eventually, type Running } from '../../../../lab/process.ts';
import { catchesSignal, isThere } from '../../../../proc/processes.ts';
import { listensAt } from '../../../../proc/sockets.ts';
import type { CliCase } from './cases.ts';

/** A text without its variable parts, and without lines that only this daemon prints. */
function masked(text: string): string {
  return text
    .replace(/^Options of this implementation:\n(?: .*\n)*\n/gm, '')
    .replace(/\(libvirt\) \d+\.\d+\.\d+/g, '(libvirt) VERSION')
    .replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: \d+: /gm, 'LINE: ')
    .replace(/^LINE: (?:info|debug) : .*\n/gm, '')
    .replace(/^(LINE: \w+ : )[^ ]+:\d+ : /gm, '$1');
}

/** The lines of a text, each behind the name of its source. */
function lines(what: string, text: string): string[] {
  if (text === '') return [];
  return text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => `${what}: ${line}`);
}

/** Nothing else may run at the place: everything below /run is removed between cases. */
export class Starter {
  readonly #place: Place;
  readonly #configuration: string;

  /** @param configuration the text of the daemon's own configuration file */
  constructor(place: Place, program: string, configuration: string) {
    this.#place = place;
    this.#configuration = configuration;
    // It is always started by this path, because it names itself in what it prints.
    if (resolve(program) !== PROGRAM) place.install(resolve(program));
  }

  /** Starts the daemon. Returns its exit codes, its output and log, and its files while it serves and at the end. */
  async run(one: CliCase): Promise<string[]> {
    const place = this.#place;
    await this.#clear();
    place.write('/etc/libvirt/virtlockd.conf', this.#configuration);
    if (one.config !== undefined) place.write('/run/test.conf', Buffer.from(one.config, 'latin1'));
    if (one.prepare !== undefined) await this.#shell(one.prepare);
    const other = one.second === true ? await this.#serving(this.#start({ ...one, args: [] })) : undefined;
    try {
      return await this.#observe(one);
    } finally {
      await other?.stop();
      // The daemon of the next check at this place must be able to start.
      if (one.prepare !== undefined) await this.#clear();
    }
  }

  async #clear(): Promise<void> {
    await this.#shell(
      // Only on the root's own file system: it may contain mounts of directories outside.
      'rm -rf --one-file-system /run/* /run/.[a-z]*; mkdir -p /run/labuser/runtime /var/log/libvirt; rm -f /var/log/libvirt/*',
    );
    await this.#shell('chown -R 47110:47110 /run/labuser; chmod 700 /run/labuser/runtime');
  }

  #start(one: CliCase): Running {
    return this.#place.spawn(
      one.program ?? PROGRAM,
      [...one.args, ...(one.config === undefined ? [] : ['-f', '/run/test.conf'])],
      { ordinary: one.ordinary, env: one.env },
    );
  }

  async #observe(one: CliCase): Promise<string[]> {
    const running = this.#start(one);
    const seen: string[] = [];
    const daemonizes = one.args.some((word) => /^-[vd]*d/.test(word));
    const endsByItself = daemonizes || one.args.some((word) => word === '1' || word === '--t=1');
    await (endsByItself ? running.exited : this.#serving(running));
    const pid = daemonizes && running.finished?.code === 0 && one.second !== true ? this.#daemonPid() : undefined;
    if (running.finished === undefined) {
      seen.push('serves', ...this.#files('file'));
      const { code, signal } = await running.stop();
      seen.push(`SIGTERM: ${signal ?? `exit ${code ?? '?'}`}`);
    } else seen.push(`exit ${running.finished.code ?? running.finished.signal ?? '?'}`);
    if (pid !== undefined) {
      seen.push(...this.#files('file'));
      process.kill(pid);
      await eventually('the daemon ends', () => isThere(pid) === false);
    }
    // C's child reports its failure to its parent before it cleans up.
    if (daemonizes)
      await eventually('the pid file is gone', () => one.second === true || this.#pidFile() === undefined);
    const { stdout, stderr } = await running.exited;
    seen.push(...lines('stdout', masked(stdout)), ...lines('stderr', masked(stderr)));
    const log = this.#place.outside('/var/log/libvirt/virtlockd.log');
    if (existsSync(log)) seen.push(...lines('log', masked(readFileSync(log, 'latin1'))));
    seen.push(...this.#files('left'));
    return seen;
  }

  /** Waits until the process serves or ends. */
  async #serving(running: Running): Promise<Running> {
    const sockets = ['/run/libvirt', join(ordinaryUser.runtime, 'libvirt'), join(ordinaryUser.home, '.cache/libvirt')];
    await eventually('the daemon serves or ends', () => {
      if (running.finished !== undefined) return true;
      // C listens a moment before it handles SIGTERM.
      if (!catchesSignal(running.pid, 'SIGTERM')) return false;
      const ours = listensAt(running.pid);
      return sockets.some((directory) => ours.includes(`${directory}/virtlockd-admin-sock`));
    });
    return running;
  }

  /** The pid in the pid file of a daemonized process. */
  #daemonPid(): number | undefined {
    const file = this.#pidFile();
    return file === undefined ? undefined : Number(readFileSync(file, 'latin1'));
  }

  #pidFile(): string | undefined {
    const files = ['/run/virtlockd.pid', '/run/other.pid', join(ordinaryUser.runtime, 'libvirt/virtlockd.pid')];
    return files.map((path) => this.#place.outside(path)).find((path) => existsSync(path));
  }

  /** Type, mode and path of all below /run. */
  #files(what: string): string[] {
    const walk = (directory: string): string[] =>
      readdirSync(this.#place.outside(directory), { withFileTypes: true }).flatMap((entry) => {
        const path = `${directory}/${entry.name}`;
        return [path, ...(entry.isDirectory() ? walk(path) : [])];
      });
    return (
      walk('/run')
        // umount leaves it there.
        .filter((path) => path !== '/run/mount')
        .map((path) => `${what}: ${lstatSync(this.#place.outside(path)).mode.toString(8)} ${path}`)
        .sort()
    );
  }

  async #shell(script: string): Promise<void> {
    await this.#place.run('/bin/sh', ['-c', script]);
  }
}
