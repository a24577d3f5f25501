import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type DeviceNames, deviceNames, namesOfDevice } from '../../../../src/programs/lockctl/device-names.ts';

/** 253:3, as stat has it. */
const DEVICE = 0xfd03;
const VOLUME = 'L8eW5W-abcd-EFGH-1234-ijkl-MNOP-qrstuv';
const LVM = `LVM-${'a'.repeat(32)}${VOLUME.replaceAll('-', '')}`;

describe('the names of a block device in an indirect lockspace', () => {
  let directory: string;
  const write = (file: string, text: string): void => {
    mkdirSync(path.join(directory, path.dirname(file)), { recursive: true });
    writeFileSync(path.join(directory, file), text);
  };
  const udev = (...lines: readonly string[]): void => {
    write('udev/b253:3', ['I:1', ...lines, 'G:systemd', ''].join('\n'));
  };
  const found = (): DeviceNames =>
    namesOfDevice(DEVICE, { sys: path.join(directory, 'sys'), udev: path.join(directory, 'udev') });
  const names = (): readonly string[] => found().names;

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'devices-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('has the UUID of a logical volume as lvs prints it, from udev or sysfs', () => {
    udev(`E:DM_UUID=${LVM}`);
    assert.deepEqual(names(), [VOLUME]);
    rmSync(path.join(directory, 'udev'), { recursive: true });
    write('sys/253:3/dm/uuid', `${LVM}\n`);
    assert.deepEqual(found(), { names: [VOLUME], unknown: null });
  });

  it('has the id of a SCSI disk, and of a multipath device and its partition, from udev', () => {
    udev('E:ID_SERIAL=36001405b2f5');
    assert.deepEqual(names(), ['36001405b2f5']);
    for (const part of ['', 'part1-']) {
      udev(`E:DM_UUID=${part}mpath-36001405b2f5`, 'E:ID_SERIAL=36001405b2f5');
      assert.deepEqual(names(), ['36001405b2f5']);
    }
  });

  it('has the id of a SCSI disk as scsi_id prints it, from sysfs', () => {
    for (const [wwid, id] of [
      ['naa.6001405b2f5a', '36001405b2f5a'],
      ['eui.0025385b71b0', '20025385b71b0'],
      ['t10.ATA     QEMU HARDDISK       QM00005  ', '1ATA_QEMU_HARDDISK_QM00005'],
    ]) {
      write('sys/253:3/device/wwid', `${wwid ?? ''}\n`);
      assert.deepEqual(found(), { names: [id], unknown: null });
    }
  });

  it("has the disk's id for a partition", () => {
    write('sys/disk/device/wwid', 'naa.6001405b2f5a\n');
    mkdirSync(path.join(directory, 'sys/disk/part'));
    symlinkSync('disk/part', path.join(directory, 'sys/253:3'));
    assert.deepEqual(found(), { names: ['36001405b2f5a'], unknown: null });
  });

  it('has the id of the one disk below a logical volume, but not the name of a volume below', () => {
    write('sys/253:3/dm/uuid', LVM);
    write('sys/253:3/slaves/dm-1/dev', '253:1\n');
    write('sys/253:1/dm/uuid', `LVM-${'b'.repeat(64)}\n`);
    write('sys/253:1/slaves/sda/dev', '8:0\n');
    write('sys/8:0/device/wwid', 'naa.6001405b2f5a\n');
    assert.deepEqual(found(), { names: [VOLUME, '36001405b2f5a'], unknown: null });
    write('sys/253:3/slaves/sdb/dev', '8:16\n');
    assert.deepEqual(names(), [VOLUME]);
  });

  it('has none of another device, and says that these are all', () => {
    udev('E:DM_UUID=CRYPT-LUKS2-1234-name', 'E:ID_TYPE=disk');
    write('sys/253:3/dm/uuid', 'CRYPT-LUKS2-1234-name');
    assert.deepEqual(found(), { names: [], unknown: null });
  });

  it('says where it cannot know them', () => {
    assert.deepEqual(found(), { names: [], unknown: 'sysfs does not show the device' });
    write('sys/253:3/device/scsi_level', '6');
    assert.match(found().unknown ?? '', /the id of this SCSI disk/);
    assert.match(deviceNames('/dev/none/such').unknown ?? '', /no such device/);
    assert.deepEqual(deviceNames('/dev/null'), { names: [], unknown: null });
    assert.deepEqual(deviceNames('/tmp'), { names: [], unknown: null });
  });
});
