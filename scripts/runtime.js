/** The pinned Node.js, for which everything is built, whatever Node.js runs npm. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const manifest = createRequire(import.meta.url).resolve(`node-linux-${process.arch}/package.json`);

/** @type {unknown} */
const pinned = JSON.parse(readFileSync(manifest, 'utf8'));
const { version } = /** @type {{ version: string }} */ (pinned);

export const runtime = {
  directory: path.dirname(manifest),
  version,
  arch: process.arch,
};
