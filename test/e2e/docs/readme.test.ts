/** README's session and commands, as they are printed, and what it says of who speaks first, with libvirtd and guests. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Host, printedSession, session } from '../../../scripts/readme.ts';
import { guestXml } from '../../../src/lab/guest.ts';
import { missingDaemon, missingGuests } from '../../../src/lab/requirements.ts';
import { ordinaryUser } from '../../../src/lab/root.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { blocksFor } from '../../support/blocks.ts';
import { normal, readPage, runBlock } from '../../support/documents.ts';
import { skipIf } from '../../support/skip.ts';

const readme = readPage('README.md');
const [, setting = ''] = blocksFor('README.md', 'test/e2e/docs/readme.test.ts').map(({ text }) => text);

describe('README', function () {
  this.timeout(120_000);

  before(function () {
    skipIf(this, missingDaemon('ours'), missingDaemon('9.0.0'), missingGuests('9.0.0'));
  });

  describe('with guests', () => {
    let host: Host;

    before(async () => {
      host = await Host.open();
    });

    after(async () => {
      await (host as Host | undefined)?.close();
    });

    it('shows a session as it goes', async () => {
      assert.equal(normal(await session(host)), normal(printedSession(readme)));
    });

    it("has the setting of libvirt's by which all of this goes", () => {
      assert.ok(readFileSync(host.lab.outside('/etc/libvirt/qemu.conf'), 'utf8').includes(setting.trim()));
    });

    it('shows commands that work', async () => {
      for (const command of runBlock(readme, 'operate').trimEnd().split('\n')) {
        const { code, text } = await host.shell(command);
        // The verdict is about the whole machine, on which other tests may have guests.
        if (command.endsWith(' health')) assert.match(text, /^(?:OK|WARNING|ERROR): /);
        else assert.equal(code, 0, `${command}: ${text}`);
      }
    });

    it('says who speaks first: QEMU when a guest starts with a plain disk, the daemon when one is plugged', async () => {
      const image = '/var/lib/libvirt/images/db.img';
      const refused = async (): Promise<number> =>
        (JSON.parse((await host.shell('virt-lockctl refusals --json')).text) as unknown[]).length;
      const before = await refused();
      host.lab.write('/root/second.xml', guestXml({ name: 'second', disks: [{ image }] }));
      const started = await host.shell('virsh create /root/second.xml');
      assert.equal(started.code, 1);
      assert.match(started.text, /Failed to get "write" lock/);
      assert.equal(await refused(), before);
      const plugged = await host.shell(`virsh attach-disk web ${image} vdb`);
      assert.equal(plugged.code, 1);
      assert.match(plugged.text, new RegExp(`resource busy: Lockspace resource '${image}' is locked`));
      assert.equal(await refused(), before + 1);
    });
  });

  it('has no other blocks', () => {
    assert.deepEqual(
      blocksFor('README.md', 'test/e2e/docs/readme.test.ts').map(({ text }) => text),
      [printedSession(readme), setting, runBlock(readme, 'session'), runBlock(readme, 'operate')],
    );
  });

  it("has lines for a session's libvirt that give its guests locks of this daemon", async () => {
    const lab = await openLab();
    const { home, runtime } = ordinaryUser;
    const run = async (command: string): Promise<string> => {
      const { code, stdout, stderr } = await lab.run('bash', ['-euc', `cd ${checkout}; ${command}`], {
        ordinary: true,
      });
      assert.equal(code, 0, `${command}: ${stdout}${stderr}`);
      return stdout;
    };
    try {
      assert.match(await run(runBlock(readme, 'session')), /Id +Name +State/);
      lab.write(`${home}/guest.xml`, guestXml({ name: 'guest', disks: [{ image: `${home}/disk.img` }] }));
      await run(`truncate --size 1M ${home}/disk.img; virsh -c qemu:///session create ${home}/guest.xml`);
      assert.match(await run(`bin/virt-lockctl who ${home}/disk.img`), /^guest \(pid \d+\) holds an exclusive lock/);
      await run('virsh -c qemu:///session destroy guest');
    } finally {
      await run(`kill $(cat ${runtime}/libvirt/libvirtd.pid) $(cat ${runtime}/libvirt/virtlockd.pid)`);
      await lab.close();
    }
  });
});
