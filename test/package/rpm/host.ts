/**
 * A host with rpm's database, stand-ins for libvirt's packages, a C lock daemon at work and owners of locks: packages come and go on it,
 * and rpm is killed at every scriptlet, and at every command by which one changes anything.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import type { LockRow } from '../../../src/lab/observe.ts';
import type { Lab } from '../../../src/lab/root.ts';
import type { Finished } from '../../../src/lab/process.ts';
import { PROGRAM } from '../../../src/libvirt/paths.ts';
import { Scene } from '../scene.ts';
import { ourPackage, standIn } from './packages.ts';

/** What comes and goes. The stand-in has two versions, and so has our package. */
export type Step =
  'install ours' | 'upgrade ours' | 'upgrade libvirt' | 'remove libvirt' | 'install libvirt' | 'remove ours';

/** A round that ends as it began. libvirt's first version is there before it. */
export const STEPS: readonly Step[] = [
  'install ours',
  'upgrade ours',
  'upgrade libvirt',
  'remove libvirt',
  'install libvirt',
  'remove ours',
];

const OURS = 'virtlockd-node';
const LAUNCHER = '/usr/lib/virtlockd-node/bin/virtlockd';
const KEPT = `${PROGRAM}.libvirt`;
const NEXT = '9999';

/** The commands by which scriptlets change anything. */
const commands = ['ln', 'mv', 'rm', 'cp', 'mkdir', 'systemctl', 'seq'];

/** Kills rpm and the script that runs this, if this is the call whose number is in kill-at. */
const countOrKill = `
if [ -e /shims/kill-at ]; then
  count=$(($(cat /shims/count) + 1))
  echo $count >/shims/count
  if [ $count = "$(cat /shims/kill-at)" ]; then
    killed=
    pid=$PPID
    while [ "$pid" -gt 1 ]; do
      killed="$killed $pid"
      read -r name </proc/$pid/comm
      [ "$name" = rpm ] && break
      pid=$(/usr/bin/sed 's/.*) //' /proc/$pid/stat | /usr/bin/cut -d ' ' -f 2)
    done
    [ "$name" = rpm ] && kill -KILL $killed
    exit 1
  fi
fi
`;
const shim = (name: string): string => `#!/bin/dash\n${countOrKill}\nexec /usr/bin/${name} "$@"\n`;
/** In the place of /bin/sh: each scriptlet that rpm starts counts. */
const shell = `#!/bin/dash\ncase $1 in /var/tmp/rpm-tmp.*)${countOrKill};; esac\nexec /bin/dash "$@"\n`;

/** Makes /usr/sbin a link to /usr/bin. */
async function merge(lab: Lab): Promise<void> {
  const script =
    'for file in /usr/sbin/*; do [ -e "/usr/bin/${file##*/}" ] || mv "$file" /usr/bin/; done; rm -r /usr/sbin; ln -s bin /usr/sbin';
  const { code, stderr } = await lab.run('sh', ['-ec', script]);
  assert.equal(code, 0, stderr);
}

export class RpmHost {
  readonly scene: Scene;
  /** The name of libvirt's package. */
  readonly libvirt: string;
  readonly #held: readonly LockRow[];
  readonly #libvirts: readonly string[];
  readonly #ours: readonly string[];
  readonly #rpm: readonly string[];

  private constructor(
    scene: Scene,
    libvirt: string,
    libvirts: readonly string[],
    ours: readonly string[],
    rpm: readonly string[],
  ) {
    this.scene = scene;
    this.libvirt = libvirt;
    this.#held = scene.locks();
    this.#libvirts = libvirts;
    this.#ours = ours;
    this.#rpm = rpm;
  }

  /**
   * @param libvirt the name of libvirt's package
   * @param merged /usr/sbin is a link to /usr/bin
   * @param tree a Debian 13 with libvirt and rpm, in the place of this machine
   * @param rpm the command that is rpm
   * @throws Error when a package cannot be built, or the stand-in not be installed
   */
  static async open({
    libvirt: name = 'libvirt-daemon-lock',
    merged = false,
    tree = '/',
    rpm = ['rpm'],
  } = {}): Promise<RpmHost> {
    const ours = [ourPackage(), ourPackage(NEXT)];
    const scene = await Scene.open(
      { name: 'this machine', generation: '9.0.0', tree: '/' },
      merged ? merge : undefined,
    );
    try {
      const sbin = merged ? '/usr/bin' : '/usr/sbin';
      const libvirts = ['9.0.0', '9.0.1'].map((version) =>
        standIn(scene.lab.directory, { name, version, sbin, from: tree }),
      );
      for (const name of commands) scene.lab.write(`/shims/${name}`, shim(name), 0o755);
      rmSync(scene.lab.outside('/usr/bin/sh'));
      scene.lab.write('/usr/bin/sh', shell, 0o755);
      const host = new RpmHost(scene, name, libvirts, ours, rpm);
      await host.must('--upgrade', libvirts[0] ?? '');
      return host;
    } catch (error) {
      await scene.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.scene.close();
  }

  /** Runs rpm. The stand-ins have no packages for what ours needs of the system. */
  async rpm(...args: readonly string[]): Promise<Finished> {
    const macros = [
      '--dbpath',
      '/var/lib/rpm',
      '--define',
      '_install_script_path /shims:/usr/sbin:/usr/bin:/sbin:/bin',
    ];
    const changes = ['--upgrade', '--erase'].includes(args[0] ?? '');
    const [program = '', ...words] = this.#rpm;
    return this.scene.run(program, [...words, ...macros, ...args, ...(changes ? ['--nodeps'] : [])]);
  }

  /** As rpm. Returns its output. @throws AssertionError with that when it fails, or a scriptlet of it does */
  async must(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.rpm(...args);
    const said = stdout + stderr;
    assert.ok(code === 0 && !said.includes('scriptlet failed'), `rpm ${args.join(' ')}: ${code}: ${said}`);
    return said;
  }

  argumentsOf(step: Step): string[] {
    const [libvirt = '', nextLibvirt = ''] = this.#libvirts;
    const [ours = '', nextOurs = ''] = this.#ours;
    // With --replacepkgs the same command can be run again.
    const put = ['--upgrade', '--replacepkgs', '--oldpackage'];
    switch (step) {
      case 'install ours':
        return [...put, ours];
      case 'upgrade ours':
        return [...put, nextOurs];
      case 'upgrade libvirt':
        return [...put, nextLibvirt];
      case 'install libvirt':
        return [...put, libvirt];
      case 'remove libvirt':
        return ['--erase', this.libvirt];
      case 'remove ours':
        return ['--erase', OURS];
    }
  }

  /** Takes a step. Returns the output of rpm. */
  async take(step: Step): Promise<string> {
    const said = await this.must(...this.argumentsOf(step));
    await this.assertDone(step);
    return said;
  }

  /** Takes a step. Returns how many scriptlets it starts, and commands that they run. */
  async count(step: Step): Promise<number> {
    this.#killAt(0);
    await this.take(step);
    this.#killAt(undefined);
    return Number(readFileSync(this.scene.lab.outside('/shims/count'), 'latin1'));
  }

  /** @param point 0: count alone; undefined: nothing */
  #killAt(point: number | undefined): void {
    if (point === undefined) rmSync(this.scene.lab.outside('/shims/kill-at'));
    else {
      this.scene.lab.write('/shims/count', '0');
      this.scene.lab.write('/shims/kill-at', String(point));
    }
  }

  /**
   * Takes a step that is killed at the scriptlet or command of that number, checks the host, and takes the step again.
   * @returns whether the step came so far
   */
  async takeKilledAt(step: Step, point: number): Promise<boolean> {
    const args = this.argumentsOf(step);
    this.#killAt(point);
    const { signal, code, stdout, stderr } = await this.rpm(...args);
    this.#killAt(undefined);
    const said = stdout + stderr;
    const killed = signal === 'SIGKILL';
    if (!killed) assert.equal(code, 0, `rpm ${args.join(' ')}: ${said}`);
    try {
      await this.assertNothingLost();
      const isGone = killed && step.startsWith('remove') && (await this.rpm('--query', args.at(-1) ?? '')).code !== 0;
      if (killed && !isGone) await this.must(...args);
      await this.assertDone(step);
    } catch (error) {
      throw new Error(`${step}, killed at ${point}: ${(error as Error).message}\n${said}`, { cause: error });
    }
    return killed;
  }

  /** Whether the same process runs with all its locks, serves, and has a program at its path. */
  async assertNothingLost(): Promise<void> {
    assert.notEqual(this.scene.runs(), undefined, `the daemon has ended: ${this.scene.daemon.log}`);
    assert.deepEqual(this.scene.locks(), this.#held);
    assert.match(await this.scene.must(PROGRAM, ['--version']), /\(libvirt\)/);
    await this.scene.assertServes();
  }

  isOurs(): boolean {
    try {
      return readlinkSync(this.scene.lab.outside(PROGRAM)) === LAUNCHER;
    } catch {
      return false;
    }
  }

  exists(inside: string): boolean {
    return existsSync(this.scene.lab.outside(inside));
  }

  async #versionsOf(name: string): Promise<string> {
    return (await this.rpm('--query', '--queryformat', '%{VERSION} ', name)).stdout.trim();
  }

  /** Whether the host is as that step leaves it. */
  async assertDone(step: Step): Promise<void> {
    await this.assertNothingLost();
    const ours = step !== 'remove ours';
    const libvirts = step !== 'remove libvirt';
    assert.equal(this.scene.runs(), ours ? 'own' : 'c');
    assert.equal(this.isOurs(), ours, 'whose program is at the path');
    assert.equal(this.exists(KEPT), ours && libvirts, 'libvirt has a second name');
    assert.deepEqual(this.scene.leftovers(), ours && libvirts ? ['virtlockd.libvirt'] : []);
    for (const unit of ['virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket']) {
      assert.equal(this.exists(`/etc/systemd/system/${unit}`), ours, unit);
    }
    if (ours && libvirts) {
      const version = step === 'upgrade libvirt' ? '9.0.1' : '9.0.0';
      assert.equal(readFileSync(this.scene.lab.outside(KEPT)).subarray(-version.length).toString('latin1'), version);
    }
    if (!ours) {
      assert.equal(await this.must('--verify', '--nodeps', this.libvirt), '');
      assert.equal(this.exists('/usr/lib/virtlockd-node'), false);
      assert.equal(this.exists('/var/lib/virtlockd-node'), false);
      assert.equal((await this.rpm('--query', OURS)).code, 1);
    } else {
      assert.equal(await this.must('--verify', '--nodeps', OURS), '');
    }
    if (step === 'upgrade ours') assert.equal(await this.#versionsOf(OURS), NEXT);
    if (step === 'upgrade libvirt') assert.equal(await this.#versionsOf(this.libvirt), '9.0.1');
  }
}
