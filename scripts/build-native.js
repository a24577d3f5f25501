/**
 * Builds the two native modules (our addon and fs-ext) against the headers of the pinned Node.js, which is the runtime
 * of the daemon, whatever Node.js runs npm. What is newer than its sources is left alone.
 */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { writeBuild } from './build-id.js';
import { runtime } from './runtime.js';

const root = path.resolve(import.meta.dirname, '..');
const require = createRequire(import.meta.url);

const fsExt = path.dirname(require.resolve('fs-ext/package.json'));

/**
 * Runs the node-gyp that npm carries.
 * @param {string} directory
 */
function gyp(directory) {
  const nodeGyp = process.env.npm_config_node_gyp;
  if (nodeGyp === undefined) {
    console.error("build-native: run it as 'npm run build', which brings node-gyp");
    process.exit(1);
  }
  try {
    // By the environment: a nodedir in the user's own npm settings would win over an option.
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
  const made = existsSync(stamp) && existsSync(output) ? readFileSync(stamp, 'utf8') : '';
  const fresh = made === wanted && sources.every((source) => statSync(source).mtimeMs <= statSync(stamp).mtimeMs);
  if (fresh) return;
  gyp(directory);
  writeFileSync(stamp, wanted);
}

/** What each room builds of its C sources, by the name that it has in dist. */
const rooms = {
  'src/posix': { launch: 'launch', 'guard.so': 'guard.node', 'posix.node': 'posix.node' },
  'src/programs/fuzz': { 'client.node': 'client.node' },
  'src/programs/trace': { 'relay.node': 'relay.node' },
};

/** @param {string} directory */
function sourcesIn(directory) {
  return readdirSync(directory)
    .filter((file) => /\.(c|h|gyp)$/.test(file))
    .map((file) => path.join(directory, file));
}

build(fsExt, path.join(fsExt, 'build', 'Release', 'fs_ext.node'), [path.join(fsExt, 'fs-ext.cc')]);

const dist = path.join(root, 'dist');
mkdirSync(dist, { recursive: true });
for (const [room, products] of Object.entries(rooms)) {
  const directory = path.join(root, room);
  const made = (/** @type {string} */ file) => path.join(directory, 'build', 'Release', file);
  // All of them include headers of src/posix.
  const sources = new Set([...sourcesIn(directory), ...sourcesIn(path.join(root, 'src/posix'))]);
  build(directory, made(Object.values(products).at(-1) ?? ''), [...sources]);
  for (const [name, file] of Object.entries(products)) {
    const target = path.join(dist, name);
    // Renamed into place: a running daemon has the old file mapped, and writing into that would crash it.
    copyFileSync(made(file), `${target}.new`);
    renameSync(`${target}.new`, target);
  }
}
// Of what was installed from npm only this is built here.
writeBuild(root, runtime);
