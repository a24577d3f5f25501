/** `npm run bench:restart`: only the part of the benchmark about SIGUSR1. */
import { runRestartSection } from './restarts.ts';
import { runReport } from './run.ts';
import { readSetting } from './setting.ts';

await runReport('virtlockd: restart', readSetting(), [{ id: 'restart', run: runRestartSection }]);
