/** What the Node.js that a package brings is made of, by its own account of versions and by its LICENSE. */

export interface Component {
  readonly name: string;
  /** Undefined where nobody says it. */
  readonly version?: string | undefined;
  /** A licence expression of SPDX. */
  readonly license: string;
  /** A package URL, or another identifier by which databases of weaknesses know it. */
  readonly references?: readonly { readonly type: 'purl' | 'cpe23Type'; readonly locator: string }[];
}

/** By the name in Node's LICENSE: licence, and the key in process.versions. Where that has no version, it is not built in. */
const LICENSED: Readonly<Record<string, readonly [license: string, version?: keyof NodeJS.ProcessVersions]>> = {
  Acorn: ['MIT', 'acorn'],
  'c-ares': ['MIT', 'ares'],
  merve: ['MIT', 'merve'],
  ittapi: ['BSD-3-Clause'],
  amaro: ['MIT', 'amaro'],
  swc: ['Apache-2.0'],
  ICU: ['Unicode-3.0', 'icu'],
  libuv: ['MIT', 'uv'],
  LIEF: ['Apache-2.0'],
  llhttp: ['MIT', 'llhttp'],
  undici: ['MIT', 'undici'],
  OpenSSL: ['Apache-2.0', 'openssl'],
  'Punycode.js': ['MIT'],
  V8: ['BSD-3-Clause', 'v8'],
  SipHash: ['CC0-1.0'],
  zlib: ['Zlib', 'zlib'],
  simdjson: ['Apache-2.0', 'simdjson'],
  simdutf: ['MIT', 'simdutf'],
  ada: ['MIT', 'ada'],
  minimatch: ['BlueOak-1.0.0'],
  inspector_protocol: ['BSD-3-Clause'],
  nghttp2: ['MIT', 'nghttp2'],
  large_pages: ['MIT'],
  caja: ['Apache-2.0'],
  brotli: ['MIT', 'brotli'],
  zstd: ['BSD-3-Clause', 'zstd'],
  HdrHistogram: ['CC0-1.0 OR BSD-2-Clause'],
  'node-heapdump': ['ISC'],
  rimraf: ['ISC'],
  uvwasi: ['MIT', 'uvwasi'],
  ngtcp2: ['MIT', 'ngtcp2'],
  nghttp3: ['MIT', 'nghttp3'],
  'node-fs-extra': ['MIT'],
  'on-exit-leak-free': ['MIT'],
  'sonic-boom': ['MIT'],
};

/** Parts of Node's sources or archive that its program does not contain. */
const OTHERS = new Set('corepack,postject,npm,GYP,jinja2,markupsafe,cpplint.py,gypi_to_gn.py,gtest'.split(','));

/** Built in without a section in LICENSE. */
const UNLISTED: Readonly<Record<string, string>> = { sqlite: 'blessing', nbytes: 'MIT', ncrypto: 'MIT' };

/** Versions of interfaces and of data within ICU. */
const NO_PARTS = new Set(['node', 'modules', 'napi', 'cldr', 'tz', 'unicode']);

const CPE: Readonly<Record<string, string>> = {
  OpenSSL: 'openssl:openssl',
  zlib: 'zlib:zlib',
  libuv: 'libuv:libuv',
  'c-ares': 'c-ares:c-ares',
  nghttp2: 'nghttp2:nghttp2',
  brotli: 'google:brotli',
};

/**
 * @param versions process.versions of the runtime
 * @param licence its LICENSE
 * @throws Error when the runtime has a part whose licence this file does not know
 */
export function partsOfRuntime(versions: NodeJS.ProcessVersions, licence: string): Component[] {
  const sections = [...licence.matchAll(/^- ([^,\n]+), located at .*, is licensed as follows:$/gm)].map(
    ([, name = '']) => name,
  );
  const unknown = sections.filter((name) => !Object.hasOwn(LICENSED, name) && !OTHERS.has(name));
  const known = new Set([...Object.values(LICENSED).map(([, key]) => key), ...Object.keys(UNLISTED), ...NO_PARTS]);
  unknown.push(...Object.keys(versions).filter((key) => !known.has(key)));
  if (unknown.length > 0) throw new Error(`packaging/runtime-parts.ts does not know ${unknown.join(', ')} of Node.js`);
  const listed = sections.flatMap((name): Component[] => {
    const [license, key] = LICENSED[name] ?? [];
    const version = key === undefined ? undefined : versions[key];
    if (license === undefined || version === '') return [];
    const product = version === undefined ? undefined : CPE[name];
    if (product === undefined) return [{ name, version, license }];
    const locator = `cpe:2.3:a:${product}:${version?.replace(/-.*/, '')}:*:*:*:*:*:*:*`;
    return [{ name, version, license, references: [{ type: 'cpe23Type', locator }] }];
  });
  const others = Object.entries(UNLISTED).map(([name, license]) => ({ name, version: versions[name], license }));
  return [...listed, ...others].sort((a, b) => (a.name < b.name ? -1 : 1));
}
