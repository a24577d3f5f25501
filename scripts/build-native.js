/**
 * Builds the native modules (our addons and fs-ext) against the headers of the pinned Node.js, whatever Node.js runs npm.
 * Modules that are newer than their sources stay.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { writeBuild } from './build-id.js';
import { runtime } from './runtime.js';

const root = path.resolve(import.meta.dirname, '..');
const require = createRequire(import.meta.url);

const fsExt = path.dirname(require.resolve('fs-ext/package.json'));

/**
 * Runs npm's node-gyp.
 * @param {string} directory
 */
function gyp(directory) {
  const nodeGyp = process.env.npm_config_node_gyp;
  if (nodeGyp === undefined) {
    console.error("build-native: run 'npm run build', which provides node-gyp");
    process.exit(1);
  }
  try {
    // In the environment, because a nodedir in the user's npm settings would override an option.
    const env = { ...process.env, npm_config_nodedir: runtime.directory };
    execFileSync(process.execPath, [nodeGyp, 'rebuild'], { cwd: directory, env, stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = /** @type {{ stdout?: Buffer, stderr?: Buffer }} */ (error);
    process.stderr.write(`${stdout?.toString() ?? ''}${stderr?.toString() ?? ''}\n`);
    console.error(
      `build-native: building ${path.relative(root, directory)} failed: a C++ compiler, make and python3 are needed`,
    );
    process.exit(1);
  }
}

/**
 * Builds `directory` unless `output` was made from the present `sources` for the present runtime.
 * @param {string} directory
 * @param {string} output
 * @param {readonly string[]} sources
 */
function build(directory, output, sources) {
  const stamp = path.join(directory, 'build', 'made-for');
  const wanted = `node ${runtime.version} ${runtime.arch}`;
  const made = fs.existsSync(stamp) && fs.existsSync(output) ? fs.readFileSync(stamp, 'utf8') : '';
  const fresh = made === wanted && sources.every((source) => fs.statSync(source).mtimeMs <= fs.statSync(stamp).mtimeMs);
  if (fresh) return;
  gyp(directory);
  fs.writeFileSync(stamp, wanted);
}

/** The products of each room's C sources, by their names in dist. */
const rooms = {
  'src/posix': { launch: 'launch', 'guard.so': 'guard.node', 'posix.node': 'posix.node' },
  'src/programs/fuzz': { 'client.node': 'client.node' },
  'src/programs/trace': { 'relay.node': 'relay.node' },
};

/** @param {string} directory */
function sourcesIn(directory) {
  return fs
    .readdirSync(directory)
    .filter((file) => /\.(c|h|gyp)$/.test(file))
    .map((file) => path.join(directory, file));
}

build(fsExt, path.join(fsExt, 'build', 'Release', 'fs_ext.node'), [path.join(fsExt, 'fs-ext.cc')]);

const dist = path.join(root, 'dist');
fs.mkdirSync(dist, { recursive: true });
for (const [room, products] of Object.entries(rooms)) {
  const directory = path.join(root, room);
  const made = (/** @type {string} */ file) => path.join(directory, 'build', 'Release', file);
  // All of them include headers of src/posix.
  const sources = new Set([...sourcesIn(directory), ...sourcesIn(path.join(root, 'src/posix'))]);
  build(directory, made(Object.values(products).at(-1) ?? ''), [...sources]);
  for (const [name, file] of Object.entries(products)) {
    const target = path.join(dist, name);
    // Renamed into place: writing to the old file, which a running daemon has mapped, would crash the daemon.
    fs.copyFileSync(made(file), `${target}.new`);
    fs.renameSync(`${target}.new`, target);
  }
}
// In an installation from npm the bundles are there already, and only the native modules are new.
writeBuild(root, runtime);
