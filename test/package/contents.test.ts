/** The package's list of what it contains (SPDX) is right: each file once, and each part of another project. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import * as esbuild from 'esbuild';
import { bundling } from '../../scripts/bundle.ts';
import { checkout } from '../../src/lab/trees.ts';
import { skipIf } from '../support/skip.ts';
import { readSpdx, type SpdxDocument } from '../support/spdx.ts';
import { packageFile, packageVersion } from './deb.ts';
import { debian12, missingRelease } from './trees.ts';

const LIST = 'usr/share/doc/virtlockd-node/virtlockd-node.spdx.json';

describe('the list of what the package contains', function () {
  this.timeout(120_000);
  let directory: string;
  let list: SpdxDocument;

  before(function () {
    skipIf(this, missingRelease(debian12));
    directory = mkdtempSync(join(tmpdir(), 'virtlockd-contents-'));
    execFileSync('dpkg-deb', ['--extract', packageFile(), directory]);
    list = readSpdx(readFileSync(join(directory, LIST), 'utf8'));
  });

  after(() => {
    if ((directory as string | undefined) !== undefined) rmSync(directory, { recursive: true });
  });

  it('has every file once, with its checksums', () => {
    const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const files = entries.map((entry) => relative(directory, join(entry.parentPath, entry.name))).sort();
    assert.deepEqual(
      list.files.map(({ fileName }) => fileName.slice(2)).sort(),
      files.filter((file) => file !== LIST),
    );
    const sha1s: string[] = [];
    for (const { fileName, checksums } of list.files) {
      const bytes = readFileSync(join(directory, fileName));
      const sum = (algorithm: string): string => createHash(algorithm).update(bytes).digest('hex');
      assert.deepEqual(
        checksums.map(({ checksumValue }) => checksumValue),
        [sum('sha1'), sum('sha256')],
        fileName,
      );
      sha1s.push(sum('sha1'));
    }
    const [own] = list.packages;
    assert.deepEqual(own?.packageVerificationCode, {
      packageVerificationCodeValue: createHash('sha1').update(sha1s.sort().join('')).digest('hex'),
      packageVerificationCodeExcludedFiles: [`./${LIST}`],
    });
    assert.deepEqual([own.name, own.versionInfo], ['virtlockd-node', packageVersion]);
  });

  it('has every npm package that is bundled, and what is installed beside them', async () => {
    const programs = ['virtlockd/main.ts', 'lockctl/main-who.ts', 'lockctl/main.ts', 'trace/main.ts', 'swap/main.ts'];
    const { metafile } = await esbuild.build({
      ...bundling,
      absWorkingDir: checkout,
      entryPoints: programs.map((file) => join(checkout, 'src/programs', file)),
      outdir: join(directory, 'none'),
      metafile: true,
      write: false,
    });
    const inputs = Object.keys(metafile.inputs).flatMap(
      (input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? [],
    );
    assert.ok(inputs.some((place) => place.endsWith('/commander')));
    for (const place of new Set([...inputs, 'node_modules/fs-ext', 'node_modules/nan'])) {
      const { name, version } = JSON.parse(readFileSync(join(checkout, place, 'package.json'), 'utf8')) as {
        name: string;
        version: string;
      };
      assert.equal(list.packages.find((one) => one.name === name)?.versionInfo, version, name);
      // Debian's way to say it.
      if (!place.endsWith('/nan')) {
        const copyright = readFileSync(join(directory, 'usr/share/doc/virtlockd-node/copyright'), 'utf8');
        assert.ok(copyright.includes(name), `${name} in debian/copyright`);
      }
    }
  });

  it('has the runtime with its parts', () => {
    const version = (name: string): string | undefined => list.packages.find((one) => one.name === name)?.versionInfo;
    assert.equal(`v${version('Node.js')}`, process.version);
    assert.equal(version('OpenSSL'), process.versions.openssl);
    assert.equal(version('V8'), process.versions.v8);
  });
});
