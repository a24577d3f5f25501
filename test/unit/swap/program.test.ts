import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Unsafe } from '../../../src/swap/errors.ts';
import { findProgram, install, kindOf } from '../../../src/swap/program.ts';

describe('putting a program at a path', () => {
  let directory: string;
  const at = (name: string): string => path.join(directory, name);
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'virt-lockctl-'));
    writeFileSync(at('virtlockd'), '\x7fELF, the C one');
    writeFileSync(at('node'), '#!/bin/sh\n');
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('keeps the file that was there, and puts that very file back', () => {
    const { ino } = statSync(at('virtlockd'));
    install(at('node'), at('virtlockd')).finish();
    assert.equal(readlinkSync(at('virtlockd')), at('node'));
    const original = findProgram('libvirt', at('virtlockd'));
    assert.equal(original, at('virtlockd.before-swap'));
    install(original, at('virtlockd')).finish();
    assert.equal(statSync(at('virtlockd')).ino, ino);
    assert.deepEqual(readdirSync(directory).sort(), ['node', 'virtlockd']);
  });

  it('undoes both directions', () => {
    const { ino } = statSync(at('virtlockd'));
    install(at('node'), at('virtlockd')).undo();
    assert.equal(statSync(at('virtlockd')).ino, ino);
    assert.ok(!existsSync(at('virtlockd.before-swap')));
    install(at('node'), at('virtlockd')).finish();
    install(at('virtlockd.before-swap'), at('virtlockd')).undo();
    assert.equal(readlinkSync(at('virtlockd')), at('node'));
    assert.ok(existsSync(at('virtlockd.before-swap')));
  });

  it('tells the kinds apart by what the file is', () => {
    assert.equal(kindOf(at('virtlockd')), 'libvirt');
    assert.equal(kindOf(at('node')), 'own');
    assert.equal(kindOf(at('missing')), 'own');
  });

  it('takes no program that cannot be read for one of ours, and keeps it', () => {
    // Reading a loop of links fails for root, too.
    symlinkSync(at('loop'), at('loop'));
    const said = /loop cannot be read, so its kind is not known: ELOOP/;
    assert.throws(() => kindOf(at('loop')), { constructor: Unsafe, message: said });
    symlinkSync(at('loop'), at('virtlockd.before-swap'));
    assert.throws(() => findProgram('libvirt', at('virtlockd')), Unsafe);
    assert.throws(() => install(at('node'), at('loop')), { constructor: Unsafe, message: said });
    assert.deepEqual(readdirSync(directory).sort(), ['loop', 'node', 'virtlockd', 'virtlockd.before-swap']);
  });

  it('keeps a link to the C daemon as well', () => {
    writeFileSync(at('real'), '\x7fELF');
    rmSync(at('virtlockd'));
    symlinkSync(at('real'), at('virtlockd'));
    install(at('node'), at('virtlockd')).finish();
    install(findProgram('libvirt', at('virtlockd')), at('virtlockd')).finish();
    assert.equal(readlinkSync(at('virtlockd')), at('real'));
  });

  it('changes nothing where it would lose something', () => {
    writeFileSync(at('virtlockd.before-swap'), 'something else');
    assert.throws(() => install(at('node'), at('virtlockd')), Unsafe);
    assert.deepEqual(readdirSync(directory).sort(), ['node', 'virtlockd', 'virtlockd.before-swap']);
  });
});
