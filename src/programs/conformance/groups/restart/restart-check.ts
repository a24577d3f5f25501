/** A check of what SIGUSR1 leaves as it was, made of a daemon of its own. */
import { slug, type WrittenCheck } from '../../check.ts';
import type { StartOptions } from '../../../../lab/daemon.ts';
import { Scene } from './scene.ts';

interface Particulars {
  /** How C is known to fail it. */
  readonly known?: string;
  /** How the daemon is started. */
  readonly start?: StartOptions;
  /** In ms, where C is known to leave the check waiting. */
  readonly limit?: number;
}

export function restartCheck(
  title: string,
  promise: string,
  body: (scene: Scene) => Promise<void>,
  { known, limit, start = {} }: Particulars = {},
): WrittenCheck {
  return {
    name: `restart/${slug(title)}`,
    group: 'restart',
    promise,
    ...(known === undefined ? {} : { known }),
    ...(limit === undefined ? {} : { limit }),
    run: async (context) => body(await Scene.open(context, start)),
  };
}
