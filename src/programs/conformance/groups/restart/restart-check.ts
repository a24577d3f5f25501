/** A check of a restart, with a daemon of its own. */
import { type WrittenCheck, writtenCheck } from '../../check.ts';
import type { StartOptions } from '../../../../lab/daemon.ts';
import { Scene } from './scene.ts';

/** `start`: how the daemon is started. */
type Particulars = Pick<WrittenCheck, 'known' | 'limit'> & { readonly start?: StartOptions };

export function restartCheck(
  title: string,
  promise: string,
  body: (scene: Scene) => Promise<void>,
  { start = {}, ...more }: Particulars = {},
): WrittenCheck {
  return writtenCheck('restart', title, promise, async (context) => body(await Scene.open(context, start)), more);
}
