/** What SPDX 2.3 asks of a document, as far as ours go. */
import assert from 'node:assert/strict';

export interface SpdxPackage {
  readonly SPDXID: string;
  readonly name: string;
  readonly versionInfo?: string;
  readonly downloadLocation: string;
  readonly filesAnalyzed: boolean;
  readonly licenseConcluded: string;
  readonly licenseDeclared: string;
  readonly copyrightText: string;
  readonly packageVerificationCode?: {
    readonly packageVerificationCodeValue: string;
    readonly packageVerificationCodeExcludedFiles?: readonly string[];
  };
}

export interface SpdxDocument {
  readonly spdxVersion: string;
  readonly dataLicense: string;
  readonly SPDXID: string;
  readonly name: string;
  readonly documentNamespace: string;
  readonly creationInfo: { readonly created: string; readonly creators: readonly string[] };
  readonly packages: readonly SpdxPackage[];
  readonly files: readonly {
    readonly SPDXID: string;
    readonly fileName: string;
    readonly checksums: readonly { readonly algorithm: string; readonly checksumValue: string }[];
    readonly licenseConcluded: string;
    readonly copyrightText: string;
  }[];
  readonly relationships: readonly {
    readonly spdxElementId: string;
    readonly relationshipType: string;
    readonly relatedSpdxElement: string;
  }[];
}

/** Identifiers of SPDX's list of licences that occur. */
const LICENSES = new Set(
  'MIT Apache-2.0 BSD-2-Clause BSD-3-Clause BlueOak-1.0.0 CC0-1.0 ISC LGPL-2.1-or-later GPL-3.0-or-later Unicode-3.0 Zlib blessing'.split(
    ' ',
  ),
);
const EXCEPTIONS = new Set(['GCC-exception-3.1']);

function assertLicense(expression: string): void {
  for (const part of expression.replaceAll(/[()]/g, '').split(/ (?:AND|OR) /)) {
    const [license = '', exception, ...others] = part.split(' WITH ');
    assert.ok(LICENSES.has(license), `${license} in ${expression}`);
    assert.ok(exception === undefined || EXCEPTIONS.has(exception), expression);
    assert.deepEqual(others, []);
  }
}

/** Returns the document. @throws AssertionError */
export function readSpdx(text: string): SpdxDocument {
  const document = JSON.parse(text) as SpdxDocument;
  assert.equal(document.spdxVersion, 'SPDX-2.3');
  assert.equal(document.dataLicense, 'CC0-1.0');
  assert.equal(document.SPDXID, 'SPDXRef-DOCUMENT');
  assert.match(document.name, /./);
  const namespace = new URL(document.documentNamespace);
  assert.equal(namespace.hash, '');
  assert.match(document.creationInfo.created, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  for (const creator of document.creationInfo.creators) assert.match(creator, /^(?:Person|Organization|Tool): ./);
  const elements = [...document.packages, ...document.files];
  const ids = new Set(['SPDXRef-DOCUMENT', ...elements.map(({ SPDXID }) => SPDXID)]);
  assert.equal(ids.size, elements.length + 1, 'identifiers are unique');
  for (const id of ids) assert.match(id, /^SPDXRef-[A-Za-z0-9.-]+$/);
  for (const one of document.packages) {
    assert.ok(one.name !== '' && one.downloadLocation !== '' && one.copyrightText !== '', one.name);
    assertLicense(one.licenseConcluded);
    assertLicense(one.licenseDeclared);
    assert.equal(one.filesAnalyzed, one.packageVerificationCode !== undefined, one.name);
  }
  for (const file of document.files) {
    assert.match(file.fileName, /^\.\/[^/]/);
    assert.deepEqual(
      file.checksums.map(({ algorithm, checksumValue }) => [algorithm, checksumValue.length]),
      [
        ['SHA1', 40],
        ['SHA256', 64],
      ],
    );
    assertLicense(file.licenseConcluded);
  }
  for (const { spdxElementId, relationshipType, relatedSpdxElement } of document.relationships) {
    assert.ok(ids.has(spdxElementId) && ids.has(relatedSpdxElement), `${spdxElementId} ${relatedSpdxElement}`);
    assert.match(relationshipType, /^(?:DESCRIBES|CONTAINS|GENERATED_FROM)$/);
  }
  const described = document.relationships.filter((one) => one.relationshipType === 'DESCRIBES');
  assert.equal(described.length, 1);
  const reached = new Set(document.relationships.map((one) => one.relatedSpdxElement));
  for (const { SPDXID } of elements) assert.ok(reached.has(SPDXID), `${SPDXID} is part of something`);
  return document;
}
