import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { XdrWriter } from '../../../xdr/codec.ts';
import { modeOf } from '../../../src/lockspace/mode.ts';
import { Lockspaces } from '../../../src/lockspace/lockspaces.ts';
import { unknownOwner } from '../../../src/lockspace/owner.ts';
import { dialectOf } from '../../../src/libvirt/dialect.ts';
import { encode } from '../../../src/lab/wire.ts';
import { Link, until } from '../support/link.ts';
import { lockOf, temporaryDirectory } from '../support/locks.ts';

describe('a descriptor of a held file', () => {
  it('sent over a connection is dropped without dropping the lock', async () => {
    const directory = temporaryDirectory();
    const lockspaces = new Lockspaces(dialectOf(12_008_000));
    const file = `${directory.path}/a`;
    writeFileSync(file, '');
    lockspaces.acquire(lockspaces.default, file, modeOf(0), { owner: unknownOwner(1), since: 0, client: 1 });
    const resource = lockspaces.default.resources.get(file);
    assert.ok(resource !== undefined);
    const link = new Link();
    link.answer = (_: Buffer, out: XdrWriter) => {
      out.u32(1);
    };
    link.connection.start();
    // Unannounced, announced, and announced but never to be served.
    link.send(encode({}), [resource.file.fd]);
    link.send(encode({ type: 4, payload: Buffer.from([0, 0, 0, 1]) }));
    link.send(Buffer.from([0]), [resource.file.fd]);
    link.send(encode({ type: 4, payload: Buffer.from([0, 0, 0, 2]) }));
    link.send(Buffer.from([0]), [resource.file.fd]);
    await until('two are served', () => link.served.length === 2);
    link.dispose();
    assert.equal(lockOf(file), 'WRITE');
    lockspaces.endResource(resource);
    directory.remove();
  });
});
