/** esbuild's options for the programs of this project. */
import type { BuildOptions } from 'esbuild';

export const bundling = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  define: { 'import.meta.dirname': '__dirname', BUNDLED: 'true' },
  external: ['fs-ext', '*.node'],
  legalComments: 'none',
  // A third less to read at every start. Lines stay short enough to be found by the numbers in a stack trace.
  minifyWhitespace: true,
  lineLimit: 100,
  logLevel: 'warning',
} satisfies BuildOptions;
