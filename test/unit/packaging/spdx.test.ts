/** The list of what a package contains. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { partsOfRuntime } from '../../../packaging/runtime-parts.ts';
import { type Contents, spdx } from '../../../packaging/spdx.ts';
import { readSpdx } from '../../support/spdx.ts';

const contents: Contents = {
  name: 'example',
  version: '1.2.3',
  license: 'MIT',
  date: 1_700_000_000,
  files: [
    { path: 'usr/b', bytes: Buffer.from('b') },
    { path: 'usr/a', bytes: Buffer.from('a') },
  ],
  components: [
    { name: 'part', version: '1', license: 'ISC', files: ['usr/b'], components: [{ name: 'inner', license: 'Zlib' }] },
  ],
};

describe('the list of what a package contains', () => {
  it('is a document of SPDX', () => {
    const { files, packages, creationInfo } = readSpdx(spdx(contents));
    assert.deepEqual(
      packages.map(({ name, licenseConcluded }) => [name, licenseConcluded]),
      [
        ['example', 'MIT AND ISC AND Zlib'],
        ['part', 'ISC'],
        ['inner', 'Zlib'],
      ],
    );
    assert.deepEqual(
      files.map(({ fileName, licenseConcluded }) => [fileName, licenseConcluded]),
      [
        ['./usr/a', 'MIT'],
        ['./usr/b', 'MIT AND ISC'],
      ],
    );
    assert.equal(creationInfo.created, '2023-11-14T22:13:20Z');
  });

  it('is no document of SPDX with a field, a licence or a reference that SPDX does not know', () => {
    const text = spdx(contents);
    for (const [right, wrong] of [
      ['"downloadLocation"', '"downloadlocation"'],
      ['"licenseDeclared": "ISC"', '"licenseDeclared": "ISC-2"'],
      ['"licenseDeclared": "ISC"', '"licenseDeclared": "ISC WITH Zlib"'],
      ['"CONTAINS"', '"HAS"'],
      ['"SPDXRef-Package-part"', '"SPDXRef-Package part"'],
      ['"SHA1"', '"CRC32"'],
      ['T22:13:20Z', 'T24:13:20Z'],
    ] as const) {
      assert.ok(text.includes(right), right);
      assert.throws(() => readSpdx(text.replace(right, wrong)), assert.AssertionError, wrong);
    }
    const [part] = contents.components;
    assert.ok(part !== undefined);
    const withReference = (type: 'purl' | 'cpe23Type', locator: string): string =>
      spdx({ ...contents, components: [{ ...part, references: [{ type, locator }] }] });
    readSpdx(withReference('purl', 'pkg:npm/%40scope/part@1'));
    readSpdx(withReference('cpe23Type', 'cpe:2.3:a:some:part:1:*:*:*:*:*:*:*'));
    assert.throws(() => readSpdx(withReference('purl', 'npm/part@1')), assert.AssertionError);
    assert.throws(() => readSpdx(withReference('cpe23Type', 'cpe:2.3:a:some:part:1')), assert.AssertionError);
  });

  it('has the same bytes for the same contents, in whatever order, and another name for others', () => {
    assert.equal(spdx({ ...contents, files: contents.files.toReversed() }), spdx(contents));
    const namespace = (one: Contents): string => readSpdx(spdx(one)).documentNamespace;
    const [first, ...others] = contents.files;
    assert.ok(first !== undefined);
    const changed = { ...contents, files: [{ ...first, bytes: Buffer.from('c') }, ...others] };
    assert.notEqual(namespace(changed), namespace(contents));
    assert.equal(namespace({ ...contents, date: 0 }), namespace(contents));
  });

  it('is refused with a part of a file that is not there', () => {
    const components = [{ name: 'part', license: 'ISC', files: ['usr/c'] }];
    assert.throws(() => spdx({ ...contents, components }), /part is in usr\/c, which example does not have/);
  });

  describe("of the runtime's parts", () => {
    const place = path.dirname(createRequire(import.meta.url).resolve(`node-linux-${process.arch}/package.json`));
    const licence = readFileSync(path.join(place, 'LICENSE'), 'utf8');

    it('has them with versions', () => {
      const parts = new Map(partsOfRuntime(process.versions, licence).map((part) => [part.name, part]));
      for (const [name, version] of [
        ['V8', process.versions.v8],
        ['OpenSSL', process.versions.openssl],
        ['libuv', process.versions.uv],
        ['zlib', process.versions.zlib],
        ['ICU', process.versions.icu],
      ] as const) {
        assert.ok(version !== undefined && version !== '');
        assert.equal(parts.get(name)?.version, version, name);
      }
      assert.equal(parts.get('npm'), undefined);
    });

    it('is refused where it has a part of which nobody has said the licence', () => {
      const more = `${licence}\n- novelty, located at deps/novelty, is licensed as follows:\n`;
      assert.throws(() => partsOfRuntime(process.versions, more), /does not know novelty of Node\.js/);
      assert.throws(() => partsOfRuntime({ ...process.versions, rarity: '1' }, licence), /does not know rarity/);
    });
  });
});
