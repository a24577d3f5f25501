/** The daemon of one kind that a list of exchanges is played to. */
import { StartedSubject } from '../../src/programs/conformance/subject.ts';
import { programOf } from '../lab/daemon.ts';
import type { DaemonKind, Generation } from '../lab/requirements.ts';
import { Lab } from '../lab/root.ts';

/** @param version whose replies are wanted, which matters for this project's daemon */
export async function openTarget(kind: DaemonKind, version: Generation): Promise<StartedSubject> {
  const lab = await Lab.open(kind === 'ours' ? '9.0.0' : kind);
  // The C daemons do not know this key and take no offence.
  return new StartedSubject(lab, [programOf(kind)], `libvirt_version = "${version}"\n`);
}
