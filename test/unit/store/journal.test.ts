import assert from 'node:assert/strict';
import { endText, parseEnd } from '../../../src/store/journal.ts';

describe('the end of a process in the journal', () => {
  const line = (code: string, status: unknown): string => JSON.stringify({ EXIT_CODE: code, EXIT_STATUS: status });

  for (const [code, status, text] of [
    ['killed', '9', 'was killed by SIGKILL'],
    ['dumped', '6', 'was killed by SIGABRT'],
    ['killed', '63', 'was killed by signal 63'],
    ['exited', '1', 'ended with status 1'],
  ] as const) {
    it(`is read: ${code} ${status}`, () => {
      const end = parseEnd(line(code, status));
      assert(end !== undefined);
      assert.equal(endText(end), text);
    });
  }

  it('is not known from anything else', () => {
    for (const text of [
      '',
      'no JSON',
      'null',
      '[]',
      '{}',
      line('stopped', '19'),
      line('killed', 'KILL'),
      line('exited', [1]),
    ])
      assert.equal(parseEnd(text), undefined, text);
  });
});
