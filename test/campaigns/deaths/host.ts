/** The machine with the package, two libvirtds and the disks. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { forkSafely } from '../../../src/lab/forks.ts';
import { guestXml, makeImage } from '../../../src/lab/guest.ts';
import type { Finished } from '../../../src/lab/process.ts';
import type { Peer } from '../../../src/lab/wire.ts';
import { programOf, unlessGone } from '../../../src/proc/processes.ts';
import { packageFile, variant } from '../../package/deb.ts';
import { Machine } from '../../package/machine.ts';
import { debian12, type Release } from '../../package/trees.ts';
import { Libvirt, type LogLine, MAIN, PEER, peerFiles } from './libvirt.ts';

const UNIT = 'virtlockd.service';

/** As in src/lab/libvirtd.ts. The machine has no control groups to give to guests. */
const qemuConfiguration = `lock_manager = "lockd"
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`;

/** Shorter than the unit's, for which a run would wait too long. */
const WATCHDOG = `[Service]
WatchdogSec=3
TimeoutAbortSec=1
`;

/** The unit requires virtlockd.socket, whose restarts restart it: systemd would give up on it. */
const LIBVIRTD = `[Unit]
StartLimitIntervalSec=0
[Service]
Environment=G_SLICE=${forkSafely.G_SLICE}
`;

/** A guest's images: paths, which are the same inside and outside. */
export interface Disks {
  /** Its own. */
  readonly image: string;
  /** The same one for all guests. */
  readonly shared: string;
  /** Plugged and unplugged while it runs. */
  readonly extra: string;
  /** Exchanged in its drive while it runs. */
  readonly media: readonly [string, string];
}

export class Host {
  readonly machine: Machine;
  readonly main: Libvirt;
  readonly peer: Libvirt;
  #upgrade: Promise<void> | undefined;
  /** The package file of another version. */
  #other: string | undefined;
  #isOther = false;

  private constructor(machine: Machine) {
    this.machine = machine;
    this.main = new Libvirt(machine, MAIN);
    this.peer = new Libvirt(machine, PEER);
  }

  /** Boots a machine with libvirt's own daemon. For `shared`, see {@link Machine.boot}. */
  static async bare(release: Release = debian12, shared: readonly string[] = []): Promise<Host> {
    return new Host(await Machine.boot(release, shared));
  }

  /** Boots a machine and installs the package there. */
  static async boot(release?: Release): Promise<Host> {
    const packaged = packageFile();
    const host = await Host.bare(release);
    try {
      copyFileSync(packaged, join(host.machine.directory, 'package.deb'));
      await host.install(join(host.machine.directory, 'package.deb'));
      return host;
    } catch (error) {
      await host.stop();
      throw error;
    }
  }

  async install(file: string): Promise<void> {
    await this.must('apt-get', 'install', '--yes', '--allow-downgrades', file);
  }

  async run(command: string, ...args: readonly string[]): Promise<Finished> {
    return this.machine.run(command, ...args);
  }

  async must(command: string, ...args: readonly string[]): Promise<string> {
    return this.machine.must(command, ...args);
  }

  write(path: string, content: string): void {
    const outside = this.machine.outside(path);
    mkdirSync(join(outside, '..'), { recursive: true });
    writeFileSync(outside, content);
  }

  /** Adds settings to the daemon's unit. */
  async dropIn(name: string, content: string): Promise<void> {
    this.write(`/etc/systemd/system/${UNIT}.d/${name}.conf`, content);
    await this.must('systemctl', 'daemon-reload');
  }

  /** Has systemd notice soon that the daemon hangs. */
  async hastenWatchdog(): Promise<void> {
    await this.dropIn('watchdog', WATCHDOG);
  }

  /** Starts libvirtd as a service. */
  async startLibvirtd(): Promise<void> {
    this.write('/etc/libvirt/qemu.conf', qemuConfiguration);
    this.write('/etc/libvirt/libvirtd.conf', `log_outputs = "3:file:${MAIN.log}"\n`);
    this.write('/etc/systemd/system/libvirtd.service.d/campaign.conf', LIBVIRTD);
    // boot.sh masks libvirtd for machines that do not need it.
    await this.must('rm', '/etc/systemd/system/libvirtd.service');
    await this.must('systemctl', 'daemon-reload');
    await this.must('systemctl', 'restart', UNIT);
    await this.main.restart();
  }

  /** Starts the second libvirtd, beside the first one. */
  async startPeer(): Promise<void> {
    for (const [path, content] of Object.entries(peerFiles)) this.write(path, content);
    await this.must('systemctl', 'daemon-reload');
    await this.peer.restart();
  }

  /** Makes a guest's disks and the XML file for virsh. One more disk, which guests only read, needs no lock. */
  describe(name: string): { readonly disks: Disks; readonly xml: string } {
    const make = (file: string): string => makeImage(this.machine.directory, file);
    const disks: Disks = {
      image: make(`${name}.img`),
      shared: make('shared.img'),
      extra: make(`${name}-extra.img`),
      media: [make(`${name}-a.img`), make(`${name}-b.img`)],
    };
    const xml = join(this.machine.directory, `${name}.xml`);
    const guest = guestXml({
      name,
      disks: [
        { image: disks.image },
        { image: disks.shared, access: 'shareable' },
        { image: make('read.img'), access: 'readonly' },
      ],
      floppy: disks.media[0],
      scsi: true,
    });
    writeFileSync(xml, guest);
    return { disks, xml };
  }

  /** Warnings and errors of both libvirtds. */
  log(): LogLine[] {
    return [...this.main.log(), ...this.peer.log()];
  }

  /** The daemon's pid outside the machine, from its first instruction on; undefined while no daemon runs. */
  daemon(): number | undefined {
    return this.machine.mainProcess(UNIT);
  }

  /** The pids of both libvirtds outside the machine, and of their children that have executed nothing yet. */
  libvirtds(): number[] {
    return this.machine.processes().filter((pid) => unlessGone(() => programOf(pid))?.endsWith('/libvirtd'));
  }

  async connect(): Promise<Peer> {
    return this.machine.connect();
  }

  async stored(): Promise<number> {
    return Number(await this.must('systemctl', 'show', '--value', '-p', 'NFileDescriptorStore', UNIT));
  }

  /**
   * Begins to install the other version of the package, unless an upgrade is under way. Does not wait, so that the daemon dies in the
   * middle of it, too.
   */
  startUpgrade(): void {
    this.#upgrade ??= this.#exchangePackage().finally(() => {
      this.#upgrade = undefined;
    });
  }

  /** Waits for the last upgrade, then configures packages whose upgrade was interrupted by a death. */
  async endUpgrades(): Promise<void> {
    await this.#upgrade;
    await this.must('dpkg', '--configure', '--pending');
  }

  async stop(): Promise<void> {
    await this.machine.stop();
  }

  async #exchangePackage(): Promise<void> {
    this.#other ??= variant('90.0.0', this.machine.directory, () => undefined);
    this.#isOther = !this.#isOther;
    await this.run('dpkg', '--install', this.#isOther ? this.#other : join(this.machine.directory, 'package.deb'));
  }
}
