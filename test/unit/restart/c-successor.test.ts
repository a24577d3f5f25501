import assert from 'node:assert/strict';
import { documentForC } from '../../../src/restart/c-successor.ts';
import { formatDocument } from '../../../src/restart/document.ts';
import { parseDocument } from '../../../src/restart/parse.ts';
import { UnfitSuccessor } from '../../../src/restart/successor.ts';
import { plainDocument } from './documents.ts';

describe('the document for a C daemon', () => {
  const document = formatDocument(parseDocument(plainDocument()));

  function refusal(version: string, bytes: Buffer): string | undefined {
    try {
      documentForC([bytes], version);
      return undefined;
    } catch (error) {
      if (error instanceof UnfitSuccessor) return error.message;
      throw error;
    }
  }

  it('is one that its version can read', () => {
    for (const version of ['9.0.0', '11.3.0', '12.8.0', '99.0.0']) assert.equal(refusal(version, document), undefined);
  });

  it('is refused where that would die of it', () => {
    const large = Buffer.alloc(10 * 1024 * 1024 + 1, 0x20);
    assert.match(refusal('12.8.0', large) ?? '', /at most 10485760/);
    // Small enough as it is; what that C daemon would be given is escaped, six bytes for each of these letters.
    const letters = Buffer.from('é'.repeat(2_000_000));
    assert.match(refusal('11.3.0', letters) ?? '', /takes 12000000 bytes/);
    const bytes = Buffer.concat([document, Buffer.from([0xff])]);
    for (const version of ['9.0.0', '11.3.0', '12.8.0']) assert.match(refusal(version, bytes) ?? '', /no UTF-8/);
    assert.match(refusal('7.0.0', document) ?? '', /cannot take over locks/);
    const empty = plainDocument();
    const without = formatDocument(parseDocument({ ...empty, defaultLockspace: { resources: [] }, lockspaces: [] }));
    assert.equal(refusal('7.0.0', without), undefined);
  });
});
