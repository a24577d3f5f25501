/**
 * What SPDX 2.3 asks of a document in JSON: its JSON schema's fields, as far as ours have them, the identifiers of its list of licences, and
 * what the schema cannot say.
 */
import assert from 'node:assert/strict';
import parseLicense from 'spdx-expression-parse';

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

/** Asserts what a value is. `at`: where it stands. */
type Check = (value: unknown, at: string) => void;

const text: Check = (value, at) => {
  assert.ok(typeof value === 'string' && value !== '', `${at}: no text: ${JSON.stringify(value)}`);
};

const flag: Check = (value, at) => {
  assert.equal(typeof value, 'boolean', at);
};

const matching =
  (pattern: RegExp): Check =>
  (value, at) => {
    text(value, at);
    assert.match(value as string, pattern, at);
  };

const oneOf = (...words: readonly string[]): Check => matching(new RegExp(`^(?:${words.join('|')})$`));

const listOf =
  (check: Check): Check =>
  (value, at) => {
    assert.ok(Array.isArray(value) && value.length > 0, `${at}: no list`);
    for (const [index, item] of value.entries()) check(item, `${at}[${index}]`);
  };

/** An object with the required fields, perhaps the optional ones, and no others. */
const object =
  (required: Readonly<Record<string, Check>>, optional: Readonly<Record<string, Check>> = {}): Check =>
  (value, at) => {
    assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value), `${at}: no object`);
    for (const name of Object.keys(required)) assert.ok(name in value, `${at}.${name} is missing`);
    for (const [name, field] of Object.entries(value)) {
      const check = required[name] ?? optional[name];
      assert.ok(check !== undefined, `${at}.${name}: SPDX has no such field here, or ours has none`);
      check(field, `${at}.${name}`);
    }
  };

/** By the list of licences and exceptions of SPDX. */
const license: Check = (value, at) => {
  text(value, at);
  if (value === 'NOASSERTION') return;
  assert.doesNotThrow(() => parseLicense(value as string), `${at}: no expression of licences: ${String(value)}`);
};

const id = matching(/^SPDXRef-[A-Za-z0-9.-]+$/);

const externalRef: Check = (value, at) => {
  object({
    referenceCategory: oneOf('SECURITY', 'PACKAGE-MANAGER'),
    referenceType: oneOf('cpe23Type', 'purl'),
    referenceLocator: matching(/^\S+$/),
  })(value, at);
  const { referenceCategory: category, referenceLocator: locator } = value as Record<string, string>;
  const { referenceType: type } = value as Record<string, string>;
  if (type === 'purl') matching(/^pkg:[a-z]+\/[^@]+@[^@]+$/)(locator, at);
  else matching(/^cpe:2\.3:[aho](?::[^:]+){10}$/)(locator, at);
  assert.equal(category, type === 'purl' ? 'PACKAGE-MANAGER' : 'SECURITY', at);
};

const document = object({
  spdxVersion: oneOf('SPDX-2\\.3'),
  dataLicense: oneOf('CC0-1\\.0'),
  SPDXID: oneOf('SPDXRef-DOCUMENT'),
  name: text,
  documentNamespace: text,
  creationInfo: object({
    created: matching(/^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/),
    creators: listOf(matching(/^(?:Person|Organization|Tool): ./)),
  }),
  packages: listOf(
    object(
      { SPDXID: id, name: text, downloadLocation: text, filesAnalyzed: flag, copyrightText: text },
      {
        versionInfo: text,
        licenseConcluded: license,
        licenseDeclared: license,
        licenseInfoFromFiles: listOf(license),
        externalRefs: listOf(externalRef),
        packageVerificationCode: object(
          { packageVerificationCodeValue: matching(/^[0-9a-f]{40}$/) },
          { packageVerificationCodeExcludedFiles: listOf(matching(/^\.\/[^/]/)) },
        ),
      },
    ),
  ),
  files: listOf(
    object({
      SPDXID: id,
      fileName: matching(/^\.\/[^/]/),
      checksums: listOf(object({ algorithm: oneOf('SHA1', 'SHA256'), checksumValue: matching(/^[0-9a-f]+$/) })),
      licenseConcluded: license,
      licenseInfoInFiles: listOf(license),
      copyrightText: text,
    }),
  ),
  relationships: listOf(
    object({
      spdxElementId: text,
      relationshipType: oneOf('DESCRIBES', 'CONTAINS', 'GENERATED_FROM'),
      relatedSpdxElement: text,
    }),
  ),
});

/** Returns the document. @throws AssertionError */
export function readSpdx(json: string): SpdxDocument {
  const value = JSON.parse(json) as SpdxDocument;
  document(value, 'document');
  assert.equal(new URL(value.documentNamespace).hash, '');
  const elements = [...value.packages, ...value.files];
  const ids = new Set(['SPDXRef-DOCUMENT', ...elements.map(({ SPDXID }) => SPDXID)]);
  assert.equal(ids.size, elements.length + 1, 'identifiers are unique');
  for (const one of value.packages) {
    assert.equal(one.filesAnalyzed, one.packageVerificationCode !== undefined, one.name);
  }
  for (const file of value.files) {
    assert.deepEqual(
      file.checksums.map(({ algorithm, checksumValue }) => [algorithm, checksumValue.length]),
      [
        ['SHA1', 40],
        ['SHA256', 64],
      ],
    );
  }
  for (const { spdxElementId, relatedSpdxElement } of value.relationships) {
    assert.ok(ids.has(spdxElementId) && ids.has(relatedSpdxElement), `${spdxElementId} ${relatedSpdxElement}`);
  }
  const described = value.relationships.filter((one) => one.relationshipType === 'DESCRIBES');
  assert.equal(described.length, 1);
  const reached = new Set(value.relationships.map((one) => one.relatedSpdxElement));
  for (const { SPDXID } of elements) assert.ok(reached.has(SPDXID), `${SPDXID} is part of something`);
  return value;
}
