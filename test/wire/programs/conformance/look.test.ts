/** What a look of an exchange waits for. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { files, look } from '../../../../src/programs/conformance/exchange/script.ts';
import type { Subject } from '../../../../src/programs/conformance/subject.ts';
import { missingDaemon } from '../../../../src/lab/requirements.ts';
import { skipIf } from '../../../support/skip.ts';
import { openTarget } from './target.ts';

describe('a look of an exchange', () => {
  let subject: Subject | undefined;

  before(async function () {
    skipIf(this, missingDaemon('ours'));
    subject = await openTarget('ours', '9.0.0');
  });

  after(async () => subject?.close());

  /** The transcript of an exchange in which a file vanishes a moment after it is looked at. */
  async function play(right?: readonly string[]): Promise<string[] | undefined> {
    const steps = (dir: string) => {
      setTimeout(() => rmSync(`${dir}/r`), 30);
      return [files('file r'), look];
    };
    return subject?.play({ name: 'a file vanishes', promise: '', steps }, { right });
  }

  it('waits for the right files, as a lease goes a moment after the end of its owner was seen', async () => {
    const right = ['files: file r', 'none open'];
    assert.deepEqual(await play(right), right);
  });

  it('tells what it saw last when they do not come', async () => {
    assert.match(
      (await play(['files: file r', 'tree: other', 'none open']))?.join('\n') ?? '',
      /^files: file r\nnone open$/,
    );
  });

  it('waits for nothing when nobody knows what is right', async () => {
    assert.match((await play())?.[1] ?? '', /tree: .* r$/);
  });
});
