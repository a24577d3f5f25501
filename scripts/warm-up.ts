/**
 * Writes scripts/warm/*.txt: the functions of each program that V8's code cache is to have (scripts/code-cache.cjs). They run in a start and
 * soon after. By names, see warm/names.ts. To be run after a change of what runs then:
 *
 *     npm run warm-up
 *
 * A function that is listed in vain costs some bytes, one that is missing is compiled when it is first called.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { functionsThatRun } from './warm/functions.ts';
import { functionsOf, wrap } from './warm/names.ts';

const dist = path.join(import.meta.dirname, '../dist');
const functions = await functionsThatRun();
for (const [program, ran] of functions) {
  const list = path.join(import.meta.dirname, 'warm', `${program}.txt`);
  // What has run on another machine, or as another user, stays as long as the program has it.
  const all = new Set(functionsOf(wrap(path.join(dist, `${program}.cjs`))).map((one) => one.name));
  const before = new Set(readFileSync(list, 'utf8').split('\n'));
  const names = [...all].filter((name) => ran.has(name) || before.has(name)).sort();
  writeFileSync(list, names.map((line) => `${line}\n`).join(''));
  console.log(`${program}: ${names.length} functions`);
}
