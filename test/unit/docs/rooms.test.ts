/** The order of the rooms: see scripts/rooms.ts. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { architecturePage } from '../../../scripts/docs.ts';
import { type Room, rooms } from '../../../scripts/rooms.ts';

const root = path.resolve(import.meta.dirname, '../../..');

/** The room of a file; undefined outside of all rooms, as for src/programs/start.cjs and scripts. */
function roomOf(file: string): Room | undefined {
  return rooms.find(({ path }) => file.startsWith(`${path}/`));
}

/** Whether a file of `room` may import one of `other`. */
function mayImport(room: Room, other: Room): boolean {
  if (room === other || room.mayImport?.includes(other.path) === true) return true;
  return rooms.indexOf(other) < rooms.indexOf(room) && !other.path.startsWith('src/programs/');
}

/** Every file that the sources below a directory import by a relative path, both seen from the root. */
function* importsBelow(directory: string): Generator<readonly [file: string, imported: string]> {
  for (const name of readdirSync(path.join(root, directory), { encoding: 'utf8', recursive: true })) {
    if (!/\.(ts|js|cjs)$/.test(name) || name.includes('/build/')) continue;
    const file = path.join(directory, name);
    const source = readFileSync(path.join(root, file), 'utf8');
    for (const [, imported = ''] of source.matchAll(/(?:\bfrom |\bimport\(|\bimport |\brequire\()'(\.[^']*)'/g))
      yield [file, path.join(path.dirname(file), imported)];
  }
}

describe('the rooms of the house', () => {
  it('import only what stands before them', () => {
    const wrong = ['xdr', 'src'].flatMap((directory) =>
      [...importsBelow(directory)].filter(([file, imported]) => {
        const [room, other] = [roomOf(file), roomOf(imported)];
        if (room === undefined) return true;
        return other === undefined ? !imported.startsWith('fixtures/') : !mayImport(room, other);
      }),
    );
    assert.deepEqual(wrong, []);
  });

  it('are used by what packages them as programs alone', () => {
    const wrong = [...importsBelow('packaging')].filter(([, imported]) => roomOf(imported) !== undefined);
    assert.deepEqual(wrong, []);
  });

  it('are all there are', () => {
    const directories = readdirSync(path.join(root, 'src'), { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
      .filter((directory) => directory !== 'src/programs' && !directory.includes('/build'));
    assert.deepEqual(
      directories.filter((directory) => roomOf(`${directory}/`) === undefined),
      [],
    );
    for (const room of rooms) assert.ok(readdirSync(path.join(root, room.path)).length > 0, room.path);
  });

  it('stand in docs/architecture.md as they are (npm run docs)', () => {
    const page = readFileSync(path.join(root, 'docs/architecture.md'), 'utf8');
    assert.equal(architecturePage(page), page);
  });
});
