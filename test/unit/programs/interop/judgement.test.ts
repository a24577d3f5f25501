import assert from 'node:assert/strict';
import { exitStatus, judge } from '../../../../src/programs/interop/judgement.ts';
import type { Cell, Check, Column } from '../../../../src/programs/interop/model.ts';
import { UsageError, parseOptions } from '../../../../src/programs/interop/options.ts';
import type { DaemonKind } from '../../../../src/lab/generation.ts';

const passes: Check = { name: 'wire/good', promise: 'It is good.', verdict: 'pass' };
const fails: Check = { name: 'wire/bad', promise: 'It is good.', verdict: 'fail', detail: 'It is not.' };
const defect: Check = { ...fails, name: 'wire/known', known: 'C cannot do that' };
const wording: Check = {
  name: 'srv-clients-set',
  promise: 'Same output.',
  verdict: 'fail',
  expected: ['exit status 1', 'error: invalid argument: new words'],
  seen: ['exit status 1', 'error: invalid argument: old words'],
};
const cell = (row: DaemonKind, column: Column, ...checks: readonly Check[]): Cell => ({
  row,
  column,
  sides: [],
  checks,
  seconds: 1,
});
const judged = (...cells: readonly Cell[]): ReturnType<typeof judge> =>
  judge(cells, [...new Set(cells.map(({ row }) => row))], [...new Set(cells.map(({ column }) => column))]);

describe('the judgement of the matrix', () => {
  it('is green where everything passed', () => {
    const judgement = judged(cell('ours', 'wire', passes, { ...passes, verdict: 'skip' }));
    assert.deepEqual(
      judgement.cells.map(({ colour, passed, skipped, ids }) => ({ colour, passed, skipped, ids })),
      [{ colour: 'green', passed: 1, skipped: 1, ids: [] }],
    );
    assert.equal(exitStatus(judgement), 0);
  });

  it('numbers a known defect once, however many cells and checks show it', () => {
    const other = { ...defect, name: 'wire/known-too' };
    const another = { ...defect, name: 'wire/another', known: 'nor that' };
    const judgement = judged(cell('9.0.0', 'wire', passes, defect, other, another), cell('12.8.0', 'wire', defect));
    assert.deepEqual(
      judgement.cells.map(({ colour, ids }) => [colour, ids]),
      [
        ['red', ['D1', 'D2']],
        ['red', ['D1']],
      ],
    );
    assert.deepEqual(judgement.reasons, [
      {
        kind: 'defect',
        text: 'C cannot do that',
        id: 'D1',
        rows: ['9.0.0', '12.8.0'],
        checks: ['wire/known', 'wire/known-too'],
      },
      { kind: 'defect', text: 'nor that', id: 'D2', rows: ['9.0.0'], checks: ['wire/another'] },
    ]);
    assert.equal(exitStatus(judgement), 0);
  });

  it('is amber where only the releases differ', () => {
    const judgement = judged(cell('9.0.0', 'virt-admin-12.8.0', passes, wording));
    assert.deepEqual(
      judgement.cells.map(({ colour, ids }) => [colour, ids]),
      [['amber', ['R1']]],
    );
    assert.equal(exitStatus(judgement), 0);
  });

  it('accepts no excuse of this daemon, nor another exit status for a wording', () => {
    for (const [row, check] of [
      ['ours', wording],
      ['ours', defect],
      ['9.0.0', { ...wording, seen: ['exit status 0'] }],
      ['9.0.0', fails],
    ] as const) {
      const judgement = judged(cell(row, 'virt-admin-12.8.0', check));
      assert.equal(judgement.cells[0]?.colour, 'unexplained', `${row} ${check.name}`);
      assert.equal(exitStatus(judgement), 1);
    }
  });

  it('has no colour where a cell was not run, or not to its end', () => {
    const broken = judge([{ ...cell('ours', 'wire'), broken: 'no daemon' }], ['ours'], ['wire', 'lockd']);
    assert.deepEqual(
      broken.cells.map(({ colour }) => colour),
      ['none', 'none'],
    );
    assert.equal(exitStatus(broken), 3);
  });
});

describe('the options of the matrix', () => {
  it('choose rows by name, and columns by name or family', () => {
    const { rows, columns, markdown } = parseOptions([
      '--rows',
      'ours,9.0.0',
      '--columns',
      'virt-admin-9.0.0,libvirtd',
    ]);
    assert.deepEqual(rows, ['9.0.0', 'ours']);
    assert.deepEqual(columns, [
      'libvirtd-7.0.0',
      'libvirtd-9.0.0',
      'libvirtd-11.3.0',
      'libvirtd-12.8.0',
      'virt-admin-9.0.0',
    ]);
    assert.equal(markdown, undefined, 'a part of the matrix does not take the place of the whole');
    assert.equal(parseOptions([]).markdown, 'docs/interop.md');
  });

  it('are refused when they name nothing', () => {
    for (const args of [['--rows', '8.0.0'], ['--columns', 'virt'], ['--jobs', '0'], ['--nonsense'], ['stray']]) {
      assert.throws(() => parseOptions(args), UsageError, args.join(' '));
    }
  });
});
