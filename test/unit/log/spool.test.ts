import assert from 'node:assert/strict';
import { type Sink, Spool } from '../../../src/log/spool.ts';
import { eventually } from '../../../src/lab/process.ts';

/** Takes so many bytes: as a disk that gets full in the middle of a line, or, if it takes `whole` messages alone, as a socket. */
class FakeSink implements Sink<string> {
  written = '';
  room = 0;
  /** Messages that it never takes. */
  refused = /^$/;
  private readonly whole: boolean;

  constructor(whole: boolean) {
    this.whole = whole;
  }

  put(item: string): string | null {
    if (this.refused.test(item)) return 'lost';
    const taken = this.whole && item.length > this.room ? 0 : Math.min(item.length, this.room);
    this.room -= taken;
    this.written += item.slice(0, taken);
    return taken === item.length ? null : item.slice(taken);
  }

  sizeOf(item: string): number {
    return item.length;
  }

  note(lost: number): string {
    return `(${lost} left out)`;
  }
}

describe('messages for an output that takes nothing for a while', () => {
  /** More than is kept. */
  const LARGE = 600 * 1024;

  for (const [whole, output] of [
    [false, 'a disk that gets full'],
    [true, 'a journal that is busy'],
  ] as const) {
    it(`come in their order, and whole, for ${output}`, async () => {
      const sink = new FakeSink(whole);
      const spool = new Spool(sink);
      sink.room = 7;
      for (const item of ['first ', 'second ', 'third ']) spool.add(item);
      assert.equal(sink.written, whole ? 'first ' : 'first s');
      sink.room = 4;
      spool.add('fourth ');
      assert.equal(sink.written, whole ? 'first ' : 'first secon');
      // Without a further message, too.
      sink.room = 1000;
      await eventually('the rest is written', () => sink.written.endsWith('fourth '));
      assert.equal(sink.written, 'first second third fourth ');
      spool.end();
    });

    it(`are counted where they are left out, for ${output}`, () => {
      const sink = new FakeSink(whole);
      const spool = new Spool(sink);
      const [one, two, three] = ['1', '2', '3'].map((digit) => digit.repeat(LARGE));
      // The second does not fit beside the first, and nothing overtakes it.
      for (const item of [one, two, three, 'small ']) spool.add(item ?? '');
      sink.room = LARGE + 5;
      spool.flush();
      assert.equal(sink.written.slice(LARGE), whole ? '' : '(3 le');
      // One that comes before the note is written counts; one that comes when a part of it is written does not.
      spool.add('late ');
      sink.room = 1000;
      spool.add('next ');
      assert.equal(sink.written.slice(LARGE), whole ? '(4 left out)next ' : '(3 left out)late next ');
      spool.end();
    });
  }

  it('are counted when the output will never take them', () => {
    const sink = new FakeSink(false);
    const spool = new Spool(sink);
    sink.room = 1000;
    sink.refused = /broken/;
    for (const item of ['one ', 'broken ', 'broken ', 'two ']) spool.add(item);
    assert.equal(sink.written, 'one (1 left out)(1 left out)two ');
    spool.end();
  });

  it('are written at its end as far as it takes them, and not after that', async () => {
    const sink = new FakeSink(true);
    const spool = new Spool(sink);
    spool.add('first ');
    spool.add('second ');
    sink.room = 6;
    spool.end();
    sink.room = 1000;
    // Longer than until the next attempt would be.
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(sink.written, 'first ');
  });
});
