import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { absolutePath, environmentOf } from '../../../../src/programs/virtlockd/surroundings.ts';
import { bytesOf, commandOf } from '../../../../src/posix/bytes.ts';

const module = path.join(import.meta.dirname, '../../../../src/programs/virtlockd/surroundings.ts');
const japanese = bytesOf('日本');

describe('surroundings', () => {
  /** The surroundings of a process with these arguments and variables. */
  function found(words: readonly string[], variables: Record<string, string>): unknown {
    const script = `
      const { commandLine, environmentOf, workingDirectory } = await import(${JSON.stringify(module)});
      const environment = environmentOf(process.env, workingDirectory());
      console.log(JSON.stringify([commandLine(process.argv.slice(1)), environment]));`;
    const program = [process.execPath, '--input-type=module', '-e', script, '--', ...words];
    const { file, args, env } = commandOf(program, variables);
    return JSON.parse(execFileSync(file, args, { env, encoding: 'utf8' }));
  }

  for (const odd of [bytesOf('ö'), japanese, '\xff', bytesOf('\ufffd')]) {
    it(`are known byte for byte: ${Buffer.from(odd, 'latin1').toString('hex')}`, () => {
      const [words, environment] = found(['-f', `/${odd}`, '', 'x'], { HOME: `/home/${odd}`, OTHER: '' }) as [
        string[],
        Record<string, string>,
      ];
      assert.deepEqual(words, ['-f', `/${odd}`, '', 'x']);
      assert.equal(environment.HOME, `/home/${odd}`);
      assert.equal(environment.OTHER, '');
    });
  }

  it('have directories that need no working directory', () => {
    assert.deepEqual(environmentOf({ HOME: 'h', XDG_RUNTIME_DIR: '', XDG_CACHE_HOME: '/c', OTHER: 'x' }, '/w'), {
      HOME: '/w/h',
      XDG_RUNTIME_DIR: '',
      XDG_CACHE_HOME: '/c',
      OTHER: 'x',
    });
  });

  it('leave a relative path to the kernel where the working directory is not known', () => {
    assert.equal(absolutePath('a', '/w'), '/w/a');
    assert.equal(absolutePath('a', null), 'a');
    assert.equal(absolutePath('/a', null), '/a');
  });

  it('tell a working directory that was deleted from one that is called so', () => {
    const directory = mkdtempSync(path.join(realpathSync(os.tmpdir()), 'virtlockd-cwd-'));
    const script = `
      const { mkdirSync, rmdirSync } = await import('node:fs');
      const { workingDirectory } = await import(${JSON.stringify(module)});
      const seen = [];
      const at = process.cwd();
      for (const name of ['a', 'a (deleted)']) {
        mkdirSync(at + '/' + name);
        process.chdir(at + '/' + name);
        seen.push(workingDirectory());
        rmdirSync(at + '/' + name);
        seen.push(workingDirectory());
      }
      console.log(JSON.stringify(seen));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: directory,
      encoding: 'utf8',
    });
    rmdirSync(directory);
    assert.deepEqual(JSON.parse(output), [`${directory}/a`, null, `${directory}/a (deleted)`, null]);
  });
});
