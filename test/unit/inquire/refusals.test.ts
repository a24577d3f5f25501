import assert from 'node:assert/strict';
import { refusalText, Refusals } from '../../../src/inquire/refusals.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { HeldFile } from '../../../src/lockspace/files.ts';
import { type Lockspace, type Refusal, Resource } from '../../../src/lockspace/lockspaces.ts';
import { NIL_UUID } from '../../../src/lockspace/owner.ts';
import { TextTable } from '../../../src/lockspace/table.ts';
import { RpcError } from '../../../src/libvirt/errors.ts';
import { ErrorCode, ErrorDomain } from '../../../xdr/error.ts';
import { HolderKind, type HolderNote } from '../../../xdr/programs/inquire.ts';

const lockspace: Lockspace = { directory: '', resources: new TextTable(), engine: null };
const hold = (pid: number, name: string): Refusal['hold'] => ({
  owner: { pid, id: 1, name, uuid: NIL_UUID },
  since: 1,
  client: 4,
});

function refusal(name: string, options: { by?: string; pid?: number } = {}): Refusal {
  const { by, pid = 0 } = options;
  const file = new HeldFile(3, 1, 2, false);
  const heldBy = by === undefined ? undefined : new Resource(lockspace, name, modeOf(0), file, [hold(7, by)]);
  const error = new RpcError(ErrorCode.RESOURCE_BUSY, ErrorDomain.LOCKSPACE, `Lockspace resource '${name}' is locked`);
  return { lockspace: '', name, path: name, mode: modeOf(0), heldBy, pid, look: null, error, hold: hold(9, 'asker') };
}

describe('refusals', () => {
  it('are remembered up to a number, oldest first, and counted beyond it', () => {
    const refusals = new Refusals();
    for (let count = 1; count <= 1000; count++) refusals.add(refusal(`/disk${count}`), count);
    assert.equal(refusals.total, 1000);
    const known = refusals.since(0);
    assert.equal(known.length, 256);
    assert.deepEqual([known[0]?.name, known.at(-1)?.name], ['/disk745', '/disk1000']);
    assert.deepEqual(
      refusals.since(998).map(({ sequence }) => sequence),
      [999, 1000],
    );
    assert.deepEqual(refusals.since(1000), []);
  });

  it('keep no more of a name than a path may have', () => {
    const { name } = new Refusals().add(refusal('x'.repeat(65_536)), 0);
    assert.equal(name.length, 4096);
  });

  it('say who holds it: an owner, another process, somebody unseen, or nobody', () => {
    const refusals = new Refusals();
    assert.equal(refusals.add(refusal('/d', { by: 'web' }), 0).holder?.kind, HolderKind.OWNER);
    assert.equal(refusals.add(refusal('/d', { pid: 3_999_999 }), 0).holder?.kind, HolderKind.PROCESS);
    assert.equal(refusals.add(refusal('/d', { pid: -1 }), 0).holder?.kind, HolderKind.ELSEWHERE);
    assert.equal(refusals.add(refusal('/d'), 0).holder, null);
  });

  it('are handed on, the last of them, and counted on', () => {
    const before = new Refusals();
    for (let count = 1; count <= 1000; count++) before.add(refusal(`/disk${count}\xff`, { by: 'web' }), count);
    const { text } = before;
    assert.ok(text.length < 64 * 1024);
    const after = new Refusals();
    after.precede(before.total, text);
    const known = after.since(0);
    assert.ok(known.length > 50);
    assert.deepEqual(known, before.since(1000 - known.length));
    assert.equal(after.add(refusal('/next'), 1001).sequence, 1001);
    assert.deepEqual(
      after.since(999).map(({ name }) => name),
      ['/disk1000\xff', '/next'],
    );
  });

  const note = (host: string): HolderNote => ({
    host,
    hostUuid: NIL_UUID,
    name: 'x'.repeat(180),
    uuid: NIL_UUID,
    pid: 7,
    shared: true,
    since: Date.parse('2026-11-30T08:15:00Z'),
    owners: 1,
  });

  it('have what holders elsewhere have noted, as long as they are remembered, and hand it on', () => {
    const before = new Refusals();
    for (let count = 1; count <= 1000; count++) {
      const info = before.add(refusal(`/disk${count}`, { pid: -1 }), count);
      if (count % 2 === 0) before.addNotes(info, ['a', 'b', 'c', 'd'].map(note));
    }
    assert.equal(before.notesSince(0).length, 128);
    const [, last] = before.notesSince(996);
    assert.deepEqual([last?.sequence, last?.notes.map(({ host }) => host)], [1000, ['a', 'b', 'c', 'd']]);
    assert.ok(before.text.length < 44 * 1024);
    const after = new Refusals();
    after.precede(before.total, before.text);
    const known = after.since(0);
    assert.ok(known.length > 20);
    assert.deepEqual(after.notesSince(0), before.notesSince((known[0]?.sequence ?? 0) - 1));
  });

  it('have the first notes of very many holders, and hand them on', () => {
    const before = new Refusals();
    before.addNotes(before.add(refusal('/disk', { pid: -1 }), 1), ['a', 'b', 'c', 'd', 'e', 'f'].map(note));
    const after = new Refusals();
    after.precede(before.total, before.text);
    for (const refusals of [before, after]) {
      const [found] = refusals.notesSince(0);
      assert.deepEqual(
        found?.notes.map(({ host }) => host),
        ['a', 'b', 'c', 'd'],
      );
    }
  });

  it('name the host, on one line whatever its name, and how many more there are', () => {
    const info = new Refusals().add(refusal('/d', { pid: -1 }), 0);
    assert.equal(
      refusalText(info, [{ ...note('node\n7'), name: 'db' }, note('node8')]),
      `Refused '/d' to VM "asker" (pid 9): held by VM "db" (pid 7) on host node\\n7, since 2026-11-30T08:15:00.000Z, and 1 more`,
    );
  });

  it('in another form are counted, and no more', () => {
    for (const text of ['', 'AAAA', 'AAAAAgAAAAA=', 'x'.repeat(100)]) {
      const refusals = new Refusals();
      refusals.precede(7, text);
      assert.deepEqual(refusals.since(0), []);
      assert.equal(refusals.total, 7);
    }
  });

  it("are logged with the owner's VM and pid, on one line whatever the names", () => {
    const refusals = new Refusals();
    assert.equal(
      refusalText(refusals.add(refusal('/disk', { by: 'web' }), 0)),
      `Refused '/disk' to VM "asker" (pid 9): held by VM "web" (pid 7)`,
    );
    const text = refusalText(refusals.add(refusal('/a\nb', { by: '\x1b[2J<script>\xff' }), 0));
    assert.equal(text, `Refused '/a\\nb' to VM "asker" (pid 9): held by VM "\\x1b[2J<script>\\xff" (pid 7)`);
  });
});
