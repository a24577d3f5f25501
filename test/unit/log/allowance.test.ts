import assert from 'node:assert/strict';
import { Allowance } from '../../../src/log/allowance.ts';

describe("a connection's part of the log", () => {
  let now: number;
  let reports: number[];
  let allowance: Allowance;

  beforeEach(() => {
    now = 0;
    reports = [];
    allowance = new Allowance(
      (leftOut) => reports.push(leftOut),
      () => now,
    );
  });
  afterEach(() => {
    allowance.end();
  });

  const admitted = (count: number, bytes: number): number =>
    Array.from({ length: count }, () => allowance.admits(bytes)).filter(Boolean).length;

  it('takes 200 messages at once, and then ten in a second', () => {
    assert.equal(admitted(200, 100), 200);
    assert.equal(admitted(50, 100), 0);
    now += 1000;
    assert.equal(admitted(50, 100), 10);
    now += 60_000;
    assert.equal(admitted(300, 100), 200);
  });

  it('takes 256 KiB at once, and then 16 in a second', () => {
    assert.equal(admitted(10, 64 * 1024), 4);
    assert.equal(admitted(1, 100), 0);
    now += 1000;
    assert.equal(admitted(10, 8 * 1024), 2);
  });

  it('reports at the end how many were left out, and nothing where none was', () => {
    assert.equal(admitted(200, 1), 200);
    allowance.end();
    assert.deepEqual(reports, []);
    assert.equal(admitted(7, 1), 0);
    allowance.end();
    assert.deepEqual(reports, [7]);
  });

  it('reports while the connection stays, once it has been quiet for a second', async () => {
    assert.equal(admitted(230, 1), 200);
    now += 1500;
    while (reports.length === 0) await new Promise((done) => setTimeout(done, 10));
    assert.deepEqual(reports, [30]);
  });
});
