/** The completions of bash for a command line. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';

/** @param words the last of which is being typed */
export function complete(program: string, ...words: readonly string[]): string[] {
  const script = `source "$1"; name=$2; shift 2; COMP_WORDS=("$name" "$@"); COMP_CWORD=$#; compopt() { :; }
    "_\${name//-/_}"; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const file = path.resolve(import.meta.dirname, `../../docs/completion/${program}.bash`);
  return execFileSync('bash', ['-c', script, 'bash', file, program, ...words], { encoding: 'utf8' })
    .split('\n')
    .filter(Boolean);
}
