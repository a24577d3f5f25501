/** The RPM package comes and goes under a C daemon with locks, and so does libvirt's: one process all the way, and every lock. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { skipIf } from '../../support/skip.ts';
import { RpmHost, STEPS } from './host.ts';
import { missingRpm } from './packages.ts';

const systems = [
  { system: 'RHEL 9 and 10, Fedora to 41, SUSE', libvirt: 'libvirt-daemon-lock', merged: false },
  { system: 'Fedora since 42, where /usr/sbin is /usr/bin', libvirt: 'libvirt-daemon-lock', merged: true },
  { system: 'libvirt before 9.1', libvirt: 'libvirt-daemon', merged: false },
];

for (const { system, libvirt, merged } of systems) {
  describe(`the RPM package: ${system}`, function () {
    this.timeout(240_000);
    let host: RpmHost;

    before(async function () {
      skipIf(this, missingRpm());
      host = await RpmHost.open({ libvirt, merged });
    });

    after(async () => {
      await (host as RpmHost | undefined)?.close();
    });

    for (const step of STEPS) {
      it(`${step}: the same process goes on, with every lock`, async () => {
        await host.take(step);
      });
    }
  });
}

describe('the RPM package', function () {
  this.timeout(240_000);
  let host: RpmHost;
  const outside = (inside: string): string => host.scene.lab.outside(inside);

  before(async function () {
    skipIf(this, missingRpm());
    host = await RpmHost.open();
  });

  after(async () => {
    await (host as RpmHost | undefined)?.close();
  });

  it("keeps an administrator's unit, and says so", async () => {
    const unit = '/etc/systemd/system/virtlockd.service';
    mkdirSync(outside('/etc/systemd/system'), { recursive: true });
    writeFileSync(outside(unit), '# mine\n');
    const said = await host.must(...host.argumentsOf('install ours'));
    assert.match(said, /virtlockd\.service is kept; this package's unit is \/usr\/lib\/virtlockd-node\/systemd/);
    await host.must(...host.argumentsOf('remove ours'));
    assert.equal(readFileSync(outside(unit), 'latin1'), '# mine\n');
    rmSync(outside(unit));
    await host.assertDone('remove ours');
  });

  it("leaves libvirt's configuration alone, and in place when libvirt's package goes", async () => {
    await host.take('install ours');
    const configuration = outside('/etc/libvirt/virtlockd.conf');
    writeFileSync(configuration, 'max_clients = 1000\n');
    await host.take('remove libvirt');
    assert.equal(readFileSync(configuration, 'latin1'), 'max_clients = 1000\n');
    await host.take('install libvirt');
    assert.equal(readFileSync(configuration, 'latin1'), 'max_clients = 1000\n');
    await host.must(...host.argumentsOf('remove ours'));
    assert.equal(readFileSync(configuration, 'latin1'), 'max_clients = 1000\n');
    rmSync(configuration);
    await host.must(...host.argumentsOf('install libvirt'));
    await host.assertDone('remove ours');
  });

  it("comes in one transaction with libvirt's upgrade, and goes in none while libvirt's package goes and locks are held", async () => {
    await host.must(...host.argumentsOf('upgrade libvirt'), host.argumentsOf('install ours').at(-1) ?? '');
    await host.assertDone('upgrade libvirt');
    const { code, stderr } = await host.rpm('--erase', host.libvirt, 'virtlockd-node');
    assert.notEqual(code, 0);
    assert.match(stderr, /not removed: end the guests first/);
    await host.assertDone('remove libvirt');
    await host.take('install libvirt');
    await host.take('remove ours');
  });

  it("is not removed while locks are held and libvirt's package is gone", async () => {
    await host.take('install ours');
    await host.take('remove libvirt');
    const { code, stderr } = await host.rpm(...host.argumentsOf('remove ours'));
    assert.notEqual(code, 0);
    assert.match(stderr, /not removed: end the guests first, or install libvirt's own lock daemon/);
    await host.assertDone('remove libvirt');
    await host.take('install libvirt');
    await host.take('remove ours');
  });

  it('goes on where its program does not run: the path and the daemon stay', async () => {
    await host.take('install ours');
    const runtime = outside('/usr/lib/virtlockd-node/bin/node');
    renameSync(runtime, `${runtime}.kept`);
    writeFileSync(runtime, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    // libvirt's program stays where libvirt's upgrade has put it.
    const { stderr, stdout } = await host.rpm(...host.argumentsOf('upgrade libvirt'));
    assert.match(stdout + stderr, /bin\/virtlockd does not run\. Nothing was changed/);
    assert.equal(host.isOurs(), false);
    await host.assertNothingLost();
    renameSync(`${runtime}.kept`, runtime);
    await host.scene.must('/usr/lib/virtlockd-node/bin/virtlockd-package', ['take']);
    await host.assertDone('upgrade libvirt');
    await host.take('remove ours');
  });
});
