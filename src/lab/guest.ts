/** Domain XML of guests with nothing to boot: only libvirt's lock calls for them matter. */
import { createHash } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Disk {
  /** Path of a raw image. */
  image: string;
  /** shareable: a read lock; readonly: no lock; default: a write lock. */
  access?: 'shareable' | 'readonly';
}

export interface Lease {
  lockspace: string;
  key: string;
  /** The lockspace's directory is `<target>/<lockspace>`. */
  target: string;
}

export interface GuestDescription {
  name: string;
  disks?: readonly Disk[];
  /** Path of the image in its floppy drive, which libvirt can change. */
  floppy?: string;
  /** With a controller for SCSI disks: QEMU unplugs these without the guest's help. */
  scsi?: boolean;
  leases?: readonly Lease[];
  /** Another program than QEMU: a script that executes it, for example. */
  emulator?: string;
  /** More arguments of QEMU. */
  arguments?: readonly string[];
}

const escape = (value: string): string => value.replace(/[&<>'"]/g, (c) => `&#${c.charCodeAt(0)};`);

const disk = ({ image, access }: Disk, index: number): string => `
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='${escape(image)}'/>
      <target dev='vd${String.fromCharCode(97 + index)}' bus='virtio'/>${access === undefined ? '' : `<${access}/>`}
    </disk>`;

const floppyDrive = (image: string): string => `
    <disk type='file' device='floppy'>
      <driver name='qemu' type='raw'/>
      <source file='${escape(image)}'/>
      <target dev='fda' bus='fdc'/>
    </disk>`;

const SCSI_CONTROLLER = `
    <controller type='scsi' model='virtio-scsi'/>`;

const lease = ({ lockspace, key, target }: Lease): string => `
    <lease>
      <lockspace>${escape(lockspace)}</lockspace>
      <key>${escape(key)}</key>
      <target path='${escape(target)}'/>
    </lease>`;

const commandLine = (args: readonly string[]): string => `
  <qemu:commandline>${args.map((arg) => `<qemu:arg value='${escape(arg)}'/>`).join('')}</qemu:commandline>`;

/** The XML of a guest: 32 MiB, one processor, emulated, with ACPI so that disks can be plugged. Its UUID follows from its name. */
export function guestXml({ name, disks = [], floppy, scsi = false, leases = [], ...guest }: GuestDescription): string {
  const { emulator = '/usr/bin/qemu-system-x86_64', arguments: args = [] } = guest;
  const more = (floppy === undefined ? '' : floppyDrive(floppy)) + (scsi ? SCSI_CONTROLLER : '');
  const uuid = createHash('sha256')
    .update(name)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
  return `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>${escape(name)}</name>
  <uuid>${uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>${emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>${disks.map(disk).join('')}${more}${leases.map(lease).join('')}
  </devices>${args.length === 0 ? '' : commandLine(args)}
</domain>
`;
}

/** Makes an empty raw image that any user may write, and returns its path. */
export function makeImage(directory: string, name: string): string {
  const path = join(directory, name);
  writeFileSync(path, Buffer.alloc(1 << 20));
  chmodSync(path, 0o666);
  return path;
}

/** The name of a disk's lock file in an indirect lockspace (`file_lockspace_dir`). */
export function indirectName(image: string): string {
  return createHash('sha256').update(image).digest('hex');
}
