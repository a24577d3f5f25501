import assert from 'node:assert/strict';
import { Findings, verdictOf } from '../../../../src/programs/lockctl/health/findings.ts';

describe('the findings of virt-lockctl health', () => {
  const unguarded = (pid: number): readonly ['unguarded-disk', { text: string; pid: number; path: string }] => [
    'unguarded-disk',
    { text: `guest (pid ${pid})`, pid, path: '/disk' },
  ];

  it('are grouped by kind, errors first, each with its commands once', () => {
    const findings = new Findings();
    findings.add('death', { text: 'died' });
    findings.add('dead-owner', { text: 'one', pid: 1 }, 'Release it.', 'release');
    findings.add('dead-owner', { text: 'two', pid: 2 }, 'Release it.', 'release');
    findings.add(...unguarded(3));
    const groups = findings.list();
    assert.deepEqual(
      groups.map(({ kind, count, title, commands }) => [kind, count, title, commands]),
      [
        ['unguarded-disk', 1, '1 disk is written without a lock', []],
        ['dead-owner', 2, '2 owners are dead and still hold locks', ['release']],
        ['death', 1, 'a lock daemon has died', []],
      ],
    );
    assert.equal(verdictOf(groups), 'error');
    assert.equal(verdictOf(groups.slice(1)), 'warning');
    assert.equal(verdictOf(groups.slice(2)), 'ok');
  });

  it('count only if a second look finds them again, where a guest that comes or goes can cause them', () => {
    const first = new Findings();
    first.add(...unguarded(1));
    first.add(...unguarded(2));
    assert.ok(first.isDoubtful);
    const second = new Findings(first);
    second.add(...unguarded(2));
    second.add(...unguarded(3));
    second.add('replaced-file', { text: 'exchanged', path: '/other' });
    assert.deepEqual(
      second.list().map(({ kind, items }) => [kind, items.map(({ text }) => text)]),
      [
        ['unguarded-disk', ['guest (pid 2)']],
        ['replaced-file', ['exchanged']],
      ],
    );
  });

  it('are certain at once where nothing of the kind was found', () => {
    const findings = new Findings();
    findings.add('replaced-file', { text: 'exchanged', path: '/disk' });
    assert.equal(findings.isDoubtful, false);
  });
});
