/** The virtual machine of campaigns, with a script in place of QEMU. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onPath } from '../../src/lab/requirements.ts';
import { skipIf } from '../support/skip.ts';
import { factReader, type Machine, missingFor, play, type Progress } from './machine.ts';

interface Fact {
  readonly is: 'begun' | 'done';
  readonly words?: string;
}

const factIn = factReader<Fact>(['begun', 'done']);

describe('a machine of a campaign', () => {
  let directory: string;
  let furnished = 0;

  /** @param script for sh, in place of QEMU, whose words it gets */
  function machine(script: string, recipe = 'one'): Machine {
    const emulator = join(directory, 'emulator');
    writeFileSync(emulator, `#!/bin/sh\n${script}`, { mode: 0o755 });
    return {
      emulator,
      hardware: ['-machine', 'none'],
      memory: 64,
      kernelTree: join(directory, 'tree'),
      console: 'ttyS9',
      kernelWords: ['quiet'],
      system: {
        name: 'system.img',
        size: 8,
        tree: join(directory, 'tree'),
        recipe,
        furnish: (root) => {
          furnished++;
          writeFileSync(join(root, 'unit'), '');
        },
      },
      checkout: {
        size: 8,
        parts: ['package.json'],
        furnish: (stage) => {
          writeFileSync(join(stage, 'plan'), '');
        },
      },
    };
  }

  const progress = (more: Partial<Progress<Fact>> = {}): Progress<Fact> => ({
    limit: 60,
    signal: new AbortController().signal,
    onFact: () => undefined,
    ...more,
  });

  before(function () {
    skipIf(this, onPath('mkfs.ext4') ? undefined : 'mkfs.ext4 is not installed (package e2fsprogs)');
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-machines-'));
    mkdirSync(join(directory, 'tree/boot'), { recursive: true });
    for (const file of ['.virtlockd-lab', 'boot/vmlinuz-6', 'boot/initrd.img-6']) {
      writeFileSync(join(directory, 'tree', file), '');
    }
  });

  after(() => {
    if ((directory as string | undefined) !== undefined) rmSync(directory, { recursive: true });
  });

  it('gets its disks, and reports facts until it has done all', async () => {
    const seen: Fact[] = [];
    const script = 'echo noise\necho "{\\"is\\":\\"begun\\",\\"words\\":\\"$*\\"}"\necho \'{"is":"done"}\'\n';
    const { facts, console } = await play(machine(script), factIn, progress({ onFact: (fact) => seen.push(fact) }));
    assert.deepEqual(seen, facts);
    assert.deepEqual(
      facts.map(({ is }) => is),
      ['begun', 'done'],
    );
    assert.equal(console, undefined);
    const words = facts[0]?.words ?? '';
    for (const part of [
      '-m 64',
      `-kernel ${directory}/tree/boot/vmlinuz-6 -initrd ${directory}/tree/boot/initrd.img-6`,
      '-append root=/dev/vda rw console=ttyS9 panic=-1 oops=panic quiet',
      `-drive file=${directory}/system.img,format=raw,if=virtio,snapshot=on`,
      '-machine none',
    ]) {
      assert.ok(words.includes(part), `${part}: ${words}`);
    }
    // The first drive is the first disk, and the first serial line the console.
    assert.match(words, /system\.img.*checkout\.img,format=raw,if=virtio,readonly=on -serial file:/);
  });

  it('uses the image of the system again, unless its recipe or its tree has changed', async () => {
    const image = join(directory, 'system.img');
    const made = statSync(image).ino;
    const before = furnished;
    await play(machine('exit 0'), factIn, progress());
    assert.deepEqual([statSync(image).ino, furnished], [made, before]);
    await play(machine('exit 0', 'two'), factIn, progress());
    assert.equal(furnished, before + 1);
    writeFileSync(join(directory, 'tree/.virtlockd-lab'), 'changed');
    await play(machine('exit 0', 'two'), factIn, progress());
    assert.equal(furnished, before + 2);
    assert.ok(!existsSync(join(directory, 'tree/unit')), 'the tree has changed');
    assert.equal(readFileSync(`${image}.made-of`, 'utf8'), 'two\nchanged');
  });

  it('shows the end of the console of one that ends before', async () => {
    const script = 'for word; do case $word in file:*) echo panic >"${word#file:}";; esac; done\n';
    const { facts, console } = await play(machine(script), factIn, progress());
    assert.deepEqual([facts, console], [[], 'panic\n']);
  });

  it('is turned off after its limit, and when it is interrupted', async () => {
    const script = 'echo \'{"is":"begun"}\'\nexec sleep 1000\n';
    assert.equal((await play(machine(script), factIn, progress({ limit: 0.2 }))).console, '');
    const interrupted = new AbortController();
    const onFact = (): void => {
      interrupted.abort();
    };
    const { facts } = await play(machine(script), factIn, progress({ signal: interrupted.signal, onFact }));
    assert.deepEqual(facts, [{ is: 'begun' }]);
  });

  it('is missing where a program or a tree is', function () {
    skipIf(this, process.geteuid?.() === 0 ? undefined : 'not root');
    assert.equal(missingFor({ sh: 'dash' }, [join(directory, 'tree')]), undefined);
    assert.match(
      missingFor({ 'no-such-program': 'some' }, []) ?? '',
      /no-such-program is not installed \(package some\)/,
    );
    assert.match(missingFor({}, [join(directory, 'none')]) ?? '', /none is not built \(scripts\/lab.sh none\)/);
  });
});
