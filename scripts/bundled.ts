/** Which npm packages each bundle contains, in build/bundled: for the lists of what a package is made of. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Metafile } from 'esbuild';

export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  readonly license: string;
}

const directory = (root: string): string => path.join(root, 'build/bundled');

/** Of packages that do not say it in their package.json: by their README or LICENSE. */
const LICENSES: Readonly<Record<string, string>> = { 'fs-ext': 'MIT' };

/** What a package says of itself. @param place its directory below the root */
export function npmPackage(root: string, place: string): NpmPackage {
  const manifest = JSON.parse(readFileSync(path.join(root, place, 'package.json'), 'utf8')) as Partial<NpmPackage>;
  const { name, version } = manifest;
  const license = manifest.license ?? LICENSES[name ?? ''];
  if (name === undefined || version === undefined || typeof license !== 'string') {
    throw new Error(`${place} has no name, version or licence`);
  }
  return { name, version, license };
}

/** Notes what is in a file of dist/. Only what esbuild has left in: it drops what nobody uses. */
export function noteBundled(root: string, file: string, { outputs }: Metafile): void {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  const places = inputs
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .flatMap(([input]) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? []);
  const packages = [...new Set(places)].sort().map((place) => npmPackage(root, place));
  mkdirSync(directory(root), { recursive: true });
  writeFileSync(path.join(directory(root), `${file}.json`), `${JSON.stringify(packages)}\n`);
}

/** The packages in each file of dist/. */
export function bundled(root: string): Map<string, readonly NpmPackage[]> {
  const files = readdirSync(directory(root)).sort();
  return new Map(
    files.map((file) => [
      file.replace(/\.json$/, ''),
      JSON.parse(readFileSync(path.join(directory(root), file), 'utf8')) as NpmPackage[],
    ]),
  );
}
