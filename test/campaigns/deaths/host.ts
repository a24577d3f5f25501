/** The machine with the package, libvirtd and the disks. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type GuestDescription, guestXml, makeImage } from '../../../src/lab/guest.ts';
import { eventually, type Finished } from '../../../src/lab/process.ts';
import type { Peer } from '../../../src/lab/wire.ts';
import { packageFile, variant } from '../../package/deb.ts';
import { Machine } from '../../package/machine.ts';

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
const LOG = '/var/log/libvirt/deaths.log';

/** Shorter than the unit's, for which a run would wait too long. */
const DROP_IN = `[Service]
WatchdogSec=3
TimeoutAbortSec=1
`;

export class Host {
  readonly machine: Machine;
  #upgrade: Promise<void> | undefined;
  /** The package file of another version. */
  #other: string | undefined;
  #isOther = false;

  private constructor(machine: Machine) {
    this.machine = machine;
  }

  /** Boots a machine and installs the package there. */
  static async boot(): Promise<Host> {
    const packaged = packageFile();
    const machine = await Machine.boot();
    const host = new Host(machine);
    try {
      copyFileSync(packaged, join(machine.directory, 'package.deb'));
      await host.install(join(machine.directory, 'package.deb'));
      return host;
    } catch (error) {
      await machine.stop();
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

  /** Starts libvirtd as a service, and waits until virsh reaches it. */
  async startLibvirtd(): Promise<void> {
    this.write('/etc/libvirt/qemu.conf', qemuConfiguration);
    this.write('/etc/libvirt/libvirtd.conf', `log_outputs = "3:file:${LOG}"\n`);
    await this.dropIn('watchdog', DROP_IN);
    // boot.sh masks libvirtd for machines that do not need it.
    await this.must('rm', '/etc/systemd/system/libvirtd.service');
    await this.must('systemctl', 'daemon-reload');
    await this.must('systemctl', 'restart', UNIT);
    await this.restartLibvirtd();
  }

  async restartLibvirtd(): Promise<void> {
    await this.must('systemctl', 'restart', 'libvirtd.service');
    await eventually('libvirtd answers', async () => (await this.virsh('list')).code === 0, 30_000);
  }

  async virsh(...args: readonly string[]): Promise<Finished> {
    return this.run('virsh', '-q', '-c', 'qemu:///system', ...args);
  }

  /** Makes a guest's disk and the XML file for virsh. */
  describe(name: string): { readonly image: string; readonly xml: string } {
    const image = makeImage(this.machine.directory, `${name}.img`);
    const xml = join(this.machine.directory, `${name}.xml`);
    const guest: GuestDescription = { name, disks: [{ image }] };
    writeFileSync(xml, guestXml(guest));
    return { image, xml };
  }

  /** libvirtd's warnings and errors. */
  log(): string[] {
    return readFileSync(this.machine.outside(LOG), 'latin1')
      .split('\n')
      .filter((line) => / (?:warning|error) : /.test(line));
  }

  /** The daemon's pid outside the machine, from its first instruction on; undefined while no daemon runs. */
  daemon(): number | undefined {
    return this.machine.mainProcess(UNIT);
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
    this.#other ??= variant('0.1.0+other', this.machine.directory, () => undefined);
    this.#isOther = !this.#isOther;
    await this.run('dpkg', '--install', this.#isOther ? this.#other : join(this.machine.directory, 'package.deb'));
  }
}
