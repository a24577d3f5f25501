/** A list of what a package contains: files with checksums, and other projects' parts with versions and licences, as SPDX 2.3 in JSON. */
import { createHash } from 'node:crypto';
import type { Component } from './runtime-parts.ts';

export interface Contents {
  readonly name: string;
  readonly version: string;
  /** A licence expression of SPDX: that of our own files. */
  readonly license: string;
  /** Seconds since 1970. */
  readonly date: number;
  readonly files: readonly { readonly path: string; readonly bytes: Buffer }[];
  /** Paths that the package has and the list does not: the list itself. */
  readonly excluded?: readonly string[];
  readonly components: readonly (Component & {
    /** Paths of the files that contain it. */
    readonly files?: readonly string[];
    /** Parts of its own. */
    readonly components?: readonly Component[];
  })[];
}

type Algorithm = 'SHA1' | 'SHA256';
interface Checksum {
  readonly algorithm: Algorithm;
  readonly checksumValue: string;
}

const digest = (algorithm: Algorithm, bytes: Buffer | string): string =>
  createHash(algorithm.toLowerCase()).update(bytes).digest('hex');

/** SPDX allows letters, digits, dots and hyphens in identifiers. */
const idOf = (kind: string, name: string): string => `SPDXRef-${kind}-${name.replaceAll(/[^A-Za-z0-9.-]+/g, '-')}`;

function packageOf({ name, version, license, references }: Component): object {
  return {
    SPDXID: idOf('Package', name),
    name,
    ...(version === undefined ? {} : { versionInfo: version }),
    downloadLocation: 'NOASSERTION',
    filesAnalyzed: false,
    licenseConcluded: license,
    licenseDeclared: license,
    copyrightText: 'NOASSERTION',
    ...(references === undefined
      ? {}
      : {
          externalRefs: references.map(({ type, locator }) => ({
            referenceCategory: type === 'purl' ? 'PACKAGE-MANAGER' : 'SECURITY',
            referenceType: type,
            referenceLocator: locator,
          })),
        }),
  };
}

/** The list's text. The same contents give the same bytes. */
export function spdx({ name, version, license, date, files, excluded = [], components }: Contents): string {
  const own = idOf('Package', name);
  const licenseOf = new Map<string, string[]>();
  for (const component of components) {
    for (const file of component.files ?? []) {
      licenseOf.set(file, [...(licenseOf.get(file) ?? []), component.license]);
    }
  }
  const listed = files
    .toSorted((a, b) => (a.path < b.path ? -1 : 1))
    .map(({ path, bytes }, index) => {
      const checksums: Checksum[] = (['SHA1', 'SHA256'] as const).map((algorithm) => ({
        algorithm,
        checksumValue: digest(algorithm, bytes),
      }));
      const licenses = [...new Set([license, ...(licenseOf.get(path) ?? [])])];
      return {
        // The number, as two paths may differ in a sign that no identifier has.
        SPDXID: idOf('File', `${index}-${path.slice(path.lastIndexOf('/') + 1)}`),
        fileName: `./${path}`,
        checksums,
        licenseConcluded: licenses.map((one) => (one.includes(' OR ') ? `(${one})` : one)).join(' AND '),
        licenseInfoInFiles: ['NOASSERTION'],
        copyrightText: 'NOASSERTION',
      };
    });
  const verification = listed.map(({ checksums }) => checksums[0]?.checksumValue ?? '').sort();
  const parts = components.flatMap((component) => [component, ...(component.components ?? [])]);
  const relationship = (spdxElementId: string, relationshipType: string, relatedSpdxElement: string): object => ({
    spdxElementId,
    relationshipType,
    relatedSpdxElement,
  });
  const fileIds = new Map(listed.map(({ fileName, SPDXID }) => [fileName.slice(2), SPDXID]));
  const relationships = [
    relationship('SPDXRef-DOCUMENT', 'DESCRIBES', own),
    ...listed.map(({ SPDXID }) => relationship(own, 'CONTAINS', SPDXID)),
    ...components.flatMap((component) => {
      const id = idOf('Package', component.name);
      const inFiles = (component.files ?? []).map((file) => {
        const fileId = fileIds.get(file);
        if (fileId === undefined) throw new Error(`${component.name} is in ${file}, which ${name} does not have`);
        return relationship(fileId, 'GENERATED_FROM', id);
      });
      const inner = (component.components ?? []).map((one) => relationship(id, 'CONTAINS', idOf('Package', one.name)));
      return [relationship(own, 'CONTAINS', id), ...inFiles, ...inner];
    }),
  ];
  const content = {
    packages: [
      {
        ...packageOf({ name, version, license }),
        filesAnalyzed: true,
        packageVerificationCode: {
          packageVerificationCodeValue: digest('SHA1', verification.join('')),
          ...(excluded.length === 0
            ? {}
            : { packageVerificationCodeExcludedFiles: excluded.map((path) => `./${path}`) }),
        },
        licenseConcluded: [license, ...new Set(parts.map((part) => part.license).filter((one) => one !== license))]
          .map((one) => (one.includes(' OR ') ? `(${one})` : one))
          .join(' AND '),
        licenseInfoFromFiles: ['NOASSERTION'],
        copyrightText: 'the virtlockd authors',
      },
      ...parts.map(packageOf),
    ],
    files: listed,
    relationships,
  };
  const document = {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `${name}-${version}`,
    // The same name for the same content, and another one for other content.
    documentNamespace: `https://virtlockd.example/spdx/${name}-${version}-${digest('SHA256', JSON.stringify(content))}`,
    creationInfo: {
      created: new Date(date * 1000).toISOString().replace(/\.\d+Z$/, 'Z'),
      creators: ['Organization: The virtlockd authors', `Tool: virtlockd-package-${version}`],
    },
    ...content,
  };
  return `${JSON.stringify(document, null, 1)}\n`;
}
