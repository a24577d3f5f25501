/** The package under test, built once a run, and variants of it. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkout } from '../../src/lab/trees.ts';

export const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';

export const packageVersion = (JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string })
  .version;

let built: string | undefined;

/** Path of the package, compressed little, as only its contents matter here. Takes some seconds when first called. */
export function packageFile(): string {
  if (built === undefined) {
    const build = [join(checkout, 'packaging/build.ts'), '--compression=gzip', '--level=1'];
    const output = execFileSync(join(checkout, 'scripts/node'), build, { cwd: checkout, encoding: 'utf8' });
    built = /^(.*\.deb): /m.exec(output)?.[1];
    if (built === undefined) throw new Error(`no package was built: ${output}`);
  }
  return built;
}

/** A copy of the package with a higher version and something changed in its tree. */
export function variant(version: string, directory: string, change: (tree: string) => void): string {
  const tree = join(directory, `variant-${version}`);
  execFileSync('dpkg-deb', ['--raw-extract', packageFile(), tree]);
  const control = join(tree, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${version}`));
  change(tree);
  const file = join(directory, `virtlockd-node_${version}_${arch}.deb`);
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '--build', tree, file], { stdio: 'ignore' });
  rmSync(tree, { recursive: true });
  return file;
}
