/** What shells offer for a command line. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { onPath } from '../../src/lab/requirements.ts';

function fileOf(program: string, shell: 'bash' | 'fish' | 'zsh'): string {
  return path.resolve(import.meta.dirname, `../../docs/completion/${program}.${shell}`);
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** bash's. @param words the last of which is being typed @param environment of the commands that are asked for names */
export function complete(program: string, ...words: readonly string[]): string[] {
  return completeIn({}, program, ...words);
}

export function completeIn(environment: NodeJS.ProcessEnv, program: string, ...words: readonly string[]): string[] {
  const script = `source "$1"; name=$2; shift 2; COMP_WORDS=("$name" "$@"); COMP_CWORD=$#; compopt() { :; }
    "_\${name//-/_}"; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const options = { encoding: 'utf8', env: { ...process.env, ...environment } } as const;
  return lines(execFileSync('bash', ['-c', script, 'bash', fileOf(program, 'bash'), program, ...words], options));
}

/** fish's, without descriptions, or undefined where fish is not installed. */
export function completeInFish(
  environment: NodeJS.ProcessEnv,
  program: string,
  ...words: readonly string[]
): string[] | undefined {
  if (!onPath('fish')) return undefined;
  const script = 'source $argv[1]; complete -C (string join -- " " $argv[2..])';
  const options = { encoding: 'utf8', env: { ...process.env, ...environment } } as const;
  const said = execFileSync('fish', ['--no-config', '-c', script, fileOf(program, 'fish'), program, ...words], options);
  return lines(said).map((line) => line.split('\t')[0] ?? '');
}

/** The long options that zsh's file has for a program: zsh completes on terminals only. Its syntax is checked where it is installed. */
export function longOptionsInZsh(program: string): Set<string> {
  const file = fileOf(program, 'zsh');
  if (onPath('zsh')) execFileSync('zsh', ['-n', file]);
  return new Set([...readFileSync(file, 'utf8').matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map(([option]) => option));
}
