/** The virtual arm64 machine: Debian 12 with its systemd, which plays the steps of inside/main.ts. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Machine } from '../machine.ts';
import { armTree } from './package.ts';

const run = promisify(execFile);

/** Runs the steps, from the disk with the checkout, and turns the machine off. */
const UNIT = `[Unit]
Description=Steps of npm run arm64
After=multi-user.target systemd-udev-settle.service
Wants=systemd-udev-settle.service
[Service]
Type=oneshot
StandardOutput=journal+console
ExecStart=/bin/sh -c 'mkdir -p /checkout; mount -t ext4 -o ro /dev/vdb /checkout; exec /checkout/node /checkout/test/campaigns/arm64/inside/main.ts'
ExecStopPost=/bin/systemctl poweroff --force --force
TimeoutStartSec=infinity
`;

/** Units that take time and are not needed. */
const MASKED = [
  'serial-getty@ttyAMA0.service',
  'e2scrub_reap.service',
  'libvirtd.service',
  'libvirt-guests.service',
  'systemd-networkd-wait-online.service',
];

/** What of the checkout the steps need, beside the package and its runtime. */
const PARTS = ['package.json', 'src', 'xdr', 'test/campaigns/nfs/inside/rival.py', 'test/campaigns/arm64'];

/** A machine in which that package is tried. */
export function machineWith(packaged: string): Machine {
  return {
    emulator: 'qemu-system-aarch64',
    hardware: [
      ...['-machine', 'virt', '-accel', 'tcg,thread=multi', '-cpu', 'cortex-a72'],
      ...['-chardev', 'stdio,id=facts', '-device', 'virtio-serial-pci'],
      ...['-device', 'virtserialport,chardev=facts,name=facts'],
    ],
    memory: 2048,
    kernelTree: armTree,
    console: 'ttyAMA0',
    kernelWords: ['quiet', 'systemd.default_timeout_start_sec=600'],
    system: {
      name: 'arm64.img',
      size: 3072,
      tree: armTree,
      recipe: ['image 1', UNIT, ...MASKED].join('\n'),
      furnish: addUnits,
    },
    checkout: {
      size: 768,
      parts: PARTS,
      furnish: async (stage) => {
        cpSync(packaged, join(stage, 'package.deb'));
        const unpacked = mkdtempSync(join(tmpdir(), 'virtlockd-arm64-'));
        try {
          await run('dpkg-deb', ['--extract', packaged, unpacked]);
          cpSync(join(unpacked, 'usr/lib/virtlockd-node/bin/node'), join(stage, 'node'));
        } finally {
          rmSync(unpacked, { recursive: true });
        }
      },
    },
  };
}

function addUnits(root: string): void {
  rmSync(join(root, 'usr/sbin/policy-rc.d'), { force: true });
  const units = join(root, 'etc/systemd/system');
  for (const unit of MASKED) {
    rmSync(join(units, unit), { force: true });
    symlinkSync('/dev/null', join(units, unit));
  }
  writeFileSync(join(units, 'steps.service'), UNIT);
  mkdirSync(join(units, 'multi-user.target.wants'), { recursive: true });
  symlinkSync('/etc/systemd/system/steps.service', join(units, 'multi-user.target.wants/steps.service'));
}
