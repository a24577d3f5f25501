/** The child that looks whether a C daemon would start: see c-start.ts. It is told what with in JSON, and answers in lines of it. */
import { writeSync } from 'node:fs';
import { ANSWERS, type CStart, type CStartAnswer } from '../../restart/c-start-answer.ts';
import { CStartFailure, foreseeCStart } from './c-start.ts';

function say(answer: CStartAnswer): void {
  writeSync(ANSWERS, `${JSON.stringify(answer)}\n`);
}

try {
  const start = JSON.parse(process.argv[2] ?? '') as CStart;
  say({
    outlook: foreseeCStart(start, (what) => {
      say({ begin: what });
    }),
  });
} catch (error) {
  if (!(error instanceof CStartFailure)) throw error;
  say({ failure: error.message });
}
