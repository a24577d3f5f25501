import assert from 'node:assert/strict';
import { describeOwner, guessOwner } from '../../../src/inquire/owners.ts';
import { NIL_UUID, unknownOwner } from '../../../src/lockspace/owner.ts';
import { Identity } from '../../../xdr/programs/inquire.ts';

const uuid = '0b2e6b1c-5b2e-4f6a-9d3c-2f1e0d9c8b7a';
const line = (...words: readonly string[]): readonly string[] => words;

describe('what is known of an owner', () => {
  it('takes what it registered', () => {
    const owner = { pid: 7, id: 3, name: 'web', uuid };
    assert.deepEqual(
      describeOwner(owner, () => assert.fail('its process is not looked at')),
      { ...owner, identity: Identity.REGISTERED },
    );
  });

  it("reads the guest's name and UUID off a QEMU's command line", () => {
    const qemu = line('/usr/bin/qemu-system-x86_64', '-name', 'guest=web,debug-threads=on', '-S', '-uuid', uuid);
    assert.deepEqual(guessOwner(7, qemu), { pid: 7, id: 0, name: 'web', uuid, identity: Identity.GUESSED });
  });

  it('reads names with commas, which QEMU doubles, and the short form', () => {
    assert.equal(guessOwner(7, line('kvm', '-name', 'guest=a,,b,process=x')).name, 'a,b');
    assert.equal(guessOwner(7, line('/usr/bin/kvm', '-name', 'short,process=x')).name, 'short');
  });

  it('does not believe other programs, nor what is no UUID', () => {
    const unknown = { pid: 7, id: 0, name: '', uuid: NIL_UUID, identity: Identity.UNKNOWN };
    assert.deepEqual(guessOwner(7, line('/bin/sh', '-name', 'guest=web')), unknown);
    assert.deepEqual(guessOwner(7, []), unknown);
    assert.equal(guessOwner(7, line('qemu-kvm', '-name', 'guest=a', '-uuid', 'no')).uuid, NIL_UUID);
  });

  it('looks at a process once', () => {
    let looks = 0;
    const read = (): readonly string[] => {
      looks++;
      return line('/usr/bin/qemu-system-x86_64', '-name', 'guest=web');
    };
    const owner = unknownOwner(9);
    assert.equal(describeOwner(owner, read).name, 'web');
    assert.equal(describeOwner(owner, read).name, 'web');
    assert.equal(looks, 1);
  });
});
