/** `npm run bench`: everything, side by side with the C daemons and the floor. */
import { runDeathSection } from './deaths.ts';
import { runEndSection } from './ends.ts';
import { runMemorySection } from './memory.ts';
import { runRateSection } from './rates.ts';
import { runRestartSection } from './restarts.ts';
import { runReport } from './run.ts';
import { readSetting } from './setting.ts';
import { runStoredSection } from './stored.ts';
import { runWaitSection } from './waits.ts';

await runReport('virtlockd: benchmark', readSetting(), [
  { id: 'rates', run: runRateSection },
  { id: 'ends', run: runEndSection },
  { id: 'waits', run: runWaitSection },
  { id: 'memory', run: runMemorySection },
  { id: 'restart', run: runRestartSection },
  { id: 'deaths', run: runDeathSection },
  { id: 'stored', run: runStoredSection },
]);
