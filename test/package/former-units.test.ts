/** The units of this release, which are copies, and those of 0.1.0, which were links: up, down, up again, and gone. */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { skipIf } from '../support/skip.ts';
import { packageFile, variant } from './deb.ts';
import { Scene } from './scene.ts';
import { debian12, missingRelease } from './trees.ts';

const UNITS = ['virtlockd.service', 'virtlockd.socket', 'virtlockd-admin.socket'];

describe("the package's units", function () {
  this.timeout(180_000);
  let scene: Scene;
  let former: string;

  before(async function () {
    skipIf(this, missingRelease(debian12));
    packageFile();
    scene = await Scene.open(debian12);
    former = variant('0.1.0', scene.lab.directory, (tree) => {
      const change = (script: string, ...changes: readonly (readonly [RegExp, string])[]): void => {
        const file = join(tree, 'DEBIAN', script);
        let text = readFileSync(file, 'utf8');
        for (const [what, by] of changes) {
          assert.match(text, what);
          text = text.replace(what, by);
        }
        writeFileSync(file, text);
      };
      const known = [/\[ -f "\$unit_directory\/\$1" \] && grep .*;/, 'false;'] as const;
      change('postinst', known, [/\{ echo "\$unit_mark" .*\n.*mv -fT .*/, 'ln -sfT "$lib/systemd/$unit" "$file"']);
      change('prerm', known);
    });
  });

  after(async () => {
    await (scene as Scene | undefined)?.close();
  });

  const unit = (name: string): string => scene.lab.outside(`/etc/systemd/system/${name}`);

  function assertCopies(): void {
    for (const name of UNITS) {
      assert(lstatSync(unit(name)).isFile(), name);
      assert.match(readFileSync(unit(name), 'utf8'), /^# Of the package virtlockd-node/);
    }
  }

  function assertLinks(): void {
    for (const name of UNITS) assert.equal(readlinkSync(unit(name)), `/usr/lib/virtlockd-node/systemd/${name}`);
  }

  async function install(file: string): Promise<string> {
    return scene.must('apt-get', ['install', '--reinstall', '--allow-downgrades', '--yes', file]);
  }

  it('are links of 0.1.0, and copies after the upgrade', async () => {
    await install(former);
    assertLinks();
    assert.doesNotMatch(await install(packageFile()), /is kept/);
    assertCopies();
  });

  it('are links again after a downgrade, but not an administrator’s own', async () => {
    const [own = '', ...others] = UNITS;
    writeFileSync(unit(own), '[Unit]\n');
    const said = await install(former);
    assert.match(said, /virtlockd\.service is kept/);
    for (const name of others) assert.equal(readlinkSync(unit(name)), `/usr/lib/virtlockd-node/systemd/${name}`);
    assert.equal(readFileSync(unit(own), 'utf8'), '[Unit]\n');
    await install(packageFile());
    assert.equal(readFileSync(unit(own), 'utf8'), '[Unit]\n');
    // Nor a link that leads nowhere for now.
    rmSync(unit(own));
    symlinkSync('/mnt/none/virtlockd.service', unit(own));
    await install(packageFile());
    assert.equal(readlinkSync(unit(own)), '/mnt/none/virtlockd.service');
  });

  it('go with 0.1.0 that has followed this release', async () => {
    rmSync(unit('virtlockd.service'));
    await install(packageFile());
    assertCopies();
    await install(former);
    assertLinks();
    await scene.must('apt-get', ['purge', '--yes', 'virtlockd-node']);
    for (const name of UNITS) assert(!existsSync(unit(name)), name);
    assert.equal(scene.runs(), 'c');
  });
});
