/**
 * Writes all that a release consists of into build/release/VERSION: packages, npm's archives, lists of contents, changelog, SHA256SUMS.
 *
 *     npm run release -- [--level N] [--allow-dirty] [--allow-unlisted] [--output DIRECTORY]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

const root = path.resolve(import.meta.dirname, '..');
const read = (file: string): string => fs.readFileSync(path.join(root, file), 'utf8');
const { version } = JSON.parse(read('package.json')) as { version: string };

const HELP = `Usage: npm run release -- [OPTION...]

Writes all artefacts of version ${version} with SHA256SUMS into build/release/${version}: each package that packaging/build.ts can
build here, npm's archives of virtlockd and of virtlockd-client, what each contains (SPDX), and the changelog.

  --level N         of xz, from 0 to 9 (default: packaging/build.ts decides)
  --output DIR      in place of build/release/VERSION; what is there is replaced
  --allow-dirty     also with changes that are not committed
  --allow-unlisted  also without an entry in CHANGELOG.md and packaging/debian/changelog
  --help

Exit status: 0 all was written, 1 an error, 2 refused, 3 written without what cannot be built here, which it names
`;

/** A refusal: nothing was written. */
class Refusal extends Error {}

const { values: options } = parseArgs({
  options: {
    level: { type: 'string' },
    output: { type: 'string' },
    'allow-dirty': { type: 'boolean', default: false },
    'allow-unlisted': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** @throws Refusal */
function check(): void {
  if (!options['allow-dirty']) {
    const { status, stdout } = spawnSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' });
    if (status !== 0) throw new Refusal('this is no git checkout (--allow-dirty releases it all the same)');
    if (stdout !== '') throw new Refusal(`not all is committed (--allow-dirty releases it all the same):\n${stdout}`);
  }
  if (options['allow-unlisted']) return;
  const [, newest] = /^## (\S+)$/m.exec(read('CHANGELOG.md')) ?? [];
  if (newest !== version) throw new Refusal(`CHANGELOG.md begins with ${newest ?? 'nothing'} and not with ${version}`);
  if (!read('packaging/debian/changelog').startsWith(`virtlockd-node (${version}) `)) {
    throw new Refusal(`packaging/debian/changelog does not begin with ${version}`);
  }
}

interface Built {
  readonly files: string[];
  /** Why packages are missing. */
  readonly missing: string[];
}

/** Builds each format for each architecture that the builder offers. It exits with status 2 where it cannot, and says why. */
function buildPackages(directory: string): Built {
  const builder = [path.join(root, 'packaging/build.ts')];
  const offered = JSON.parse(execFileSync(process.execPath, [...builder, '--list'], { encoding: 'utf8' })) as {
    format: string;
    arch: string;
  }[];
  const built: Built = { files: [], missing: [] };
  for (const { format, arch } of offered) {
    const level = options.level === undefined ? [] : [`--level=${options.level}`];
    const words = [...builder, `--format=${format}`, `--arch=${arch}`, ...level];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: 'utf8' });
    const [, file] = /^(\/.*): \d+ bytes/m.exec(stdout) ?? [];
    if (status === 2) built.missing.push(`${format} for ${arch}: ${stderr.trim()}`);
    else if (status !== 0 || file === undefined) throw new Error(`${format} for ${arch}: ${stderr}`);
    else {
      const name = path.basename(file);
      fs.copyFileSync(file, path.join(directory, name));
      const tree = path.join(root, 'build', format === 'deb' ? `package-${arch}` : `package-${arch}-${format}`, 'tree');
      const list = path.join(tree, 'usr/share/doc/virtlockd-node/virtlockd-node.spdx.json');
      fs.copyFileSync(list, path.join(directory, `${name}.spdx.json`));
      built.files.push(name);
      console.log(`release: ${name}`);
    }
  }
  return built;
}

/** npm's archives, and what each contains. */
async function packNpm(directory: string): Promise<void> {
  // They ask git for the date, and read what the build has noted: loaded only when there is a build.
  const { bundledIn } = await import('../packaging/contents.ts');
  const { spdx } = await import('../packaging/spdx.ts');
  const { epoch } = await import('../packaging/tree.ts');
  for (const [name, place] of [
    ['virtlockd', '.'],
    ['virtlockd-client', 'dist/client'],
  ] as const) {
    const words = [
      'pack',
      place === '.' ? root : `./${place}`,
      '--ignore-scripts',
      '--silent',
      '--pack-destination',
      directory,
    ];
    const archive = execFileSync('npm', words, { cwd: root, encoding: 'utf8' }).trim();
    const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'virtlockd-release-'));
    execFileSync('tar', ['-xzf', path.join(directory, archive), '-C', scratch]);
    const files = fs
      .readdirSync(scratch, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.join(entry.parentPath, entry.name))
      .map((file) => ({ path: path.relative(path.join(scratch, 'package'), file), bytes: fs.readFileSync(file) }));
    const paths = files.map((file) => file.path);
    const components = bundledIn(paths, (file) => `dist/${file}`);
    const list = spdx({ name, version, license: 'MIT', date: Number(epoch()), files, components });
    fs.writeFileSync(path.join(directory, `${archive}.spdx.json`), list);
    fs.rmSync(scratch, { recursive: true });
    console.log(`release: ${archive}`);
  }
}

function writeSums(directory: string): void {
  const names = fs.readdirSync(directory).sort();
  const sums = names.map((name) => {
    const sum = createHash('sha256').update(fs.readFileSync(path.join(directory, name)));
    return `${sum.digest('hex')}  ${name}\n`;
  });
  fs.writeFileSync(path.join(directory, 'SHA256SUMS'), sums.join(''));
}

async function release(): Promise<number> {
  check();
  process.umask(0o022);
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: 'inherit' });
  const directory = path.resolve(options.output ?? path.join(root, 'build/release', version));
  const fresh = `${directory}.new`;
  fs.rmSync(fresh, { recursive: true, force: true });
  fs.mkdirSync(fresh, { recursive: true });
  const { files, missing } = buildPackages(fresh);
  if (files.length === 0) throw new Error(`no package can be built here:\n${missing.join('\n')}`);
  await packNpm(fresh);
  fs.copyFileSync(path.join(root, 'CHANGELOG.md'), path.join(fresh, 'CHANGELOG.md'));
  writeSums(fresh);
  fs.rmSync(directory, { recursive: true, force: true });
  fs.renameSync(fresh, directory);
  console.log(`release: ${directory}`);
  for (const one of missing) console.warn(`release: left out ${one}`);
  return missing.length === 0 ? 0 : 3;
}

if (options.help) process.stdout.write(HELP);
else {
  try {
    process.exitCode = await release();
  } catch (error) {
    console.error(`release: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = error instanceof Refusal ? 2 : 1;
  }
}
