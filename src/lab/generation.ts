/** The releases of libvirt whose daemons were recorded, and by which of them a daemon is judged. */
export type Generation = '7.0.0' | '9.0.0' | '11.3.0' | '12.8.0';
export const generations: readonly Generation[] = ['7.0.0', '9.0.0', '11.3.0', '12.8.0'];

/** This project's lock daemon, or the C daemon of a release. */
export type DaemonKind = 'ours' | Generation;

/** The version as libvirt counts it: major * 1000000 + minor * 1000 + micro. */
function numberOf(version: string): number {
  const [major = 0, minor = 0, micro = 0] = version.split('.').map(Number);
  return major * 1_000_000 + minor * 1000 + micro;
}

/** The newest recorded generation that is not newer than a version, or the oldest one. */
export function generationOf(version: number): Generation {
  return generations.findLast((generation) => numberOf(generation) <= version) ?? '7.0.0';
}

/** @throws Error unless the text is a version `X.Y.Z` */
export function generationNamed(version: string): Generation {
  if (!/^\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(version)) throw new Error(`'${version}' is no version like 9.0.0`);
  return generationOf(numberOf(version));
}
