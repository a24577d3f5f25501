/**
 * The names that libvirt gives a block device in an indirect lockspace other than by its path: the UUID of a logical volume
 * (`lvm_lockspace_dir`) and the id of a SCSI disk (`scsi_lockspace_dir`). libvirt asks `lvs` and `scsi_id`. sysfs and udev's database have
 * the same, so that no program runs and no device is asked.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import type { ByteString } from '../../../xdr/codec.ts';
import { splitDevice } from '../../proc/locks.ts';
import { toPath } from './context.ts';

export interface DeviceNames {
  readonly names: readonly string[];
  /** Why there may be more names; null if these are all. */
  readonly unknown: string | null;
}

/** Where the kernel and udev have what they know of devices. */
interface Sources {
  readonly sys: string;
  readonly udev: string;
}

const SOURCES: Sources = { sys: '/sys/dev/block', udev: '/run/udev/data' };
const NONE: DeviceNames = { names: [], unknown: null };
/** Mappings on mappings. */
const MAX_DEPTH = 8;

/** Of the block device at a path below /dev; none for any other path, of which libvirt asks neither. */
export function deviceNames(path: ByteString): DeviceNames {
  // Other file systems may hang.
  if (!path.startsWith('/dev/')) return NONE;
  const stat = statSync(toPath(path), { throwIfNoEntry: false });
  if (stat === undefined) return { names: [], unknown: 'there is no such device here' };
  return stat.isBlockDevice() ? namesOfDevice(stat.rdev) : NONE;
}

/** @param device as stat's st_rdev */
export function namesOfDevice(device: number, sources = SOURCES): DeviceNames {
  const { major, minor } = splitDevice(device);
  return namesOf(`${major}:${minor}`, sources, MAX_DEPTH);
}

/** A sentence where a lock by such a name was not looked for, else undefined. @param knowsLockspaces the daemon reports them */
export function deviceNote(path: ByteString, knowsLockspaces: boolean): string | undefined {
  const { names, unknown } = deviceNames(path);
  const why = names.length > 0 && !knowsLockspaces ? 'the daemon does not report its lockspaces' : unknown;
  return why === null ? undefined : `Not looked for: a lock by the UUID of a logical volume or by a SCSI id (${why}).`;
}

function namesOf(number: string, sources: Sources, depth: number): DeviceNames {
  const device = `${sources.sys}/${number}`;
  const entry = textOf(`${sources.udev}/b${number}`) ?? '';
  const udev = (key: string): string | undefined => new RegExp(`^E:${key}=(.+)$`, 'm').exec(entry)?.[1];
  const mapping = textOf(`${device}/dm/uuid`)?.trim() ?? udev('DM_UUID') ?? '';
  // A partition's disk has it.
  const wwid = textOf(`${device}/device/wwid`) ?? textOf(`${device}/../device/wwid`);
  const names = [
    volumeOf(mapping),
    /^(?:part\d+-)?mpath-(.+)$/.exec(mapping)?.[1],
    udev('ID_SERIAL'),
    wwid === undefined ? undefined : scsiIdOf(wwid),
  ].filter((name) => name !== undefined);
  const below = depth === 0 ? NONE : belowOf(device, sources, depth);
  const all = [...new Set([...names, ...below.names])];
  if (all.length > 0) return { names: all, unknown: below.unknown };
  if (!existsSync(device)) return { names: [], unknown: 'sysfs does not show the device' };
  const isScsi = existsSync(`${device}/device/scsi_level`) || existsSync(`${device}/../device/scsi_level`);
  return { names: [], unknown: isScsi ? 'neither sysfs nor udev has the id of this SCSI disk' : below.unknown };
}

/** The SCSI id of the one device below a mapping: the mapping passes on the question for it. */
function belowOf(device: string, sources: Sources, depth: number): DeviceNames {
  const [below, ...others] = entriesOf(`${device}/slaves`);
  const number = below === undefined ? undefined : textOf(`${device}/slaves/${below}/dev`)?.trim();
  if (number === undefined || others.length > 0) return NONE;
  const { names, unknown } = namesOf(number, sources, depth - 1);
  return { names: names.filter((name) => !VOLUME.test(name)), unknown };
}

/** As lvs prints it. */
const VOLUME = /^\w{6}(?:-\w{4}){5}-\w{6}$/;

/** From a device mapper's UUID, which has the UUIDs of the volume group and of the volume, without hyphens. */
function volumeOf(mapping: string): string | undefined {
  const volume = /^LVM-\w{32}(\w{32})$/.exec(mapping)?.[1];
  return volume?.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, '$1-$2-$3-$4-$5-$6-$7');
}

/** As scsi_id prints what sysfs has: the number of the kind of id comes first. */
function scsiIdOf(wwid: string): string | undefined {
  const [, kind = '', id = ''] = /^(naa|eui|t10)\.(.*)$/.exec(wwid.trim()) ?? [];
  const number = { naa: '3', eui: '2', t10: '1' }[kind];
  return number === undefined ? undefined : `${number}${id.replaceAll(/\s+/g, '_')}`;
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
