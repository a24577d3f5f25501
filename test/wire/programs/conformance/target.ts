/** The daemon of one kind that a list of exchanges is played to. */
import { StartedSubject } from '../../../../src/programs/conformance/subject.ts';
import { programOf } from '../../../../src/lab/start.ts';
import type { DaemonKind, Generation } from '../../../../src/lab/generation.ts';
import { openLab } from '../../../../src/lab/trees.ts';

/** @param version whose replies are wanted, which matters for this project's daemon */
export async function openTarget(kind: DaemonKind, version: Generation): Promise<StartedSubject> {
  const lab = await openLab(kind);
  // The C daemons do not know this key and take no offence.
  return new StartedSubject(lab, [programOf(kind)], `libvirt_version = "${version}"\n`);
}
