/** Documents of the daemon's shell are true: the sample configuration, the manual pages, the completion. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_ETCD } from '../../../../src/etcd/settings.ts';
import { DEFAULT_CONFIG, parseConfig } from '../../../../src/programs/virtlockd/config.ts';
import { usageText } from '../../../../src/programs/virtlockd/options.ts';
import { complete, completeInFish, longOptionsInZsh } from '../../../support/completion.ts';
import { skipIf } from '../../../support/skip.ts';

const docs = join(import.meta.dirname, '../../../../docs');
const read = (name: string): string => readFileSync(join(docs, name), 'utf8');
const isInstalled = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;

/** `--help`'s options: short and long. */
const options = [...usageText('x', true).matchAll(/^ {2}(?:-(\w) \| )?--([\w-]+)/gm)].map(([, short, long = '']) => ({
  short,
  long,
}));

describe('documents', () => {
  it('the sample configuration is one, and shows the defaults', () => {
    const sample = read('virtlockd.conf');
    assert.deepEqual(parseConfig(sample, 'sample'), DEFAULT_CONFIG);
    const settings = [...sample.matchAll(/^#(\w+) = (.+)$/gm)];
    const ofEtcd = Object.keys(DEFAULT_ETCD).length;
    assert.equal(settings.length, Object.keys(DEFAULT_CONFIG).length - 1 + ofEtcd);
    const text = settings.map(([, name = '', value = '']) => `${name} = ${value}`).join('\n');
    const written = parseConfig(text, 'sample');
    assert.deepEqual({ ...written, logLevel: undefined }, DEFAULT_CONFIG);
    assert.equal(written.logLevel, 3);
    const endpoints = ['http://127.0.0.1:2379'];
    const { etcd } = parseConfig(
      text.replace('etcd_endpoints = [ ]', `etcd_endpoints = [ "${endpoints[0]}" ]`),
      'sample',
    );
    assert.deepEqual(etcd, { ...DEFAULT_ETCD, endpoints });
  });

  it('the manual names every option and every setting', () => {
    const page = read('man/virtlockd.8').replaceAll('\\-', '-');
    assert.equal(options.length, 9);
    for (const { short, long } of options) {
      assert(page.includes(`--${long}`), long);
      if (short !== undefined) assert(page.includes(`-${short}`), short);
    }
    for (const [, name = ''] of read('virtlockd.conf').matchAll(/^#(\w+) = /gm)) {
      assert.match(read('man/virtlockd.conf.5'), new RegExp(`^\\.BR (?:.* )?${name} "`, 'm'));
    }
  });

  for (const page of readdirSync(join(docs, 'man'))) {
    it(`${page} is formatted without a warning`, function () {
      skipIf(this, isInstalled('man') ? undefined : 'man is not installed (package man-db)');
      const { stderr, status } = spawnSync('man', ['--warnings', '-l', '-Tutf8', '-Z', join(docs, 'man', page)]);
      assert.equal(stderr.toString(), '');
      assert.equal(status, 0);
    });
  }

  it('the completion offers every option', function () {
    skipIf(this, isInstalled('bash') ? undefined : 'bash is not installed');
    const offered = options.flatMap(({ short, long }) => [...(short === undefined ? [] : [`-${short}`]), `--${long}`]);
    assert.deepEqual(complete('virtlockd', '-').sort(), offered.sort());
    const longs = new Set(options.map(({ long }) => `--${long}`));
    assert.deepEqual(longOptionsInZsh('virtlockd'), longs);
    assert.deepEqual(new Set(completeInFish({}, 'virtlockd', '--') ?? longs), longs);
    assert.deepEqual(complete('virtlockd', '--ver'), ['--verbose', '--version']);
    assert.deepEqual(complete('virtlockd', '-f', join(docs, 'virtlockd.c')), [join(docs, 'virtlockd.conf')]);
    assert.deepEqual(complete('virtlockd', '--config', '=', join(docs, 'virtlockd.c')), [join(docs, 'virtlockd.conf')]);
    assert.deepEqual(complete('virtlockd', '--root', join(docs, 'ma')), [join(docs, 'man')]);
    assert.deepEqual(complete('virtlockd', '-t', '1'), ['120']);
  });
});
