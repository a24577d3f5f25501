/** The lock daemon these tests are about: this project's, unless VIRTLOCKD_TEST_DAEMON names a C one to check the tests by. */
import { type DaemonKind, type Generation, generations } from '../../src/lab/generation.ts';

const named = process.env.VIRTLOCKD_TEST_DAEMON ?? 'ours';
const found = (['ours', ...generations] as const).find((kind) => kind === named);
if (found === undefined)
  throw new Error(`VIRTLOCKD_TEST_DAEMON: '${named}' is none of ours, ${generations.join(', ')}`);

export const underTest: DaemonKind = found;

/** The libvirt it runs beside. */
export const libvirtGeneration: Generation = underTest === 'ours' ? '9.0.0' : underTest;
