import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';

describe('exitProcess', () => {
  it('ends the process with that status, after those who want to know', () => {
    const source = `import { exitProcess } from './src/posix/exit.ts';
      process.on('exit', (status) => process.stdout.write('told ' + status));
      setInterval(() => undefined, 1000);
      exitProcess(3);`;
    const cwd = path.resolve(import.meta.dirname, '../../..');
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], { cwd });
    assert.deepEqual([status, stdout.toString(), stderr.toString()], [3, 'told 3', '']);
  });
});
