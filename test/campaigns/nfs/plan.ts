/** What is played: the scenes, and the kernels and versions of NFS of each. */
import { type Kernel, kernels } from './kernels.ts';

export const versions = ['4.2', '3'] as const;
export type Version = (typeof versions)[number];

/** The scenes in their order, and what each shows. */
export const subjects = {
  spaces: '`lockspace test` between two hosts, and between two mounts of one',
  refusal: "a lock of one host is refused on the other, which names the holder's host; direct images keep their bytes",
  grace: 'the NFS server stops and comes back, with its grace period, under both hosts',
  cut: 'a host is cut off until its lease ends, and comes back',
  restart: 'SIGUSR1 while a rival on the other host asks for every lock',
  death: 'kill -9 of the daemon, with and without a descriptor store, while the rival asks',
  swap: 'from the C daemon to this one and back, while the rival asks',
} as const;
export type Subject = keyof typeof subjects;

export const subjectNames = Object.keys(subjects) as Subject[];

/** What may change with the kernel: Linux before 5.11 is said to drop POSIX locks at exec from a process with threads. */
const ON_OLD_KERNELS: readonly Subject[] = ['restart', 'death', 'swap'];

/** As in `cut-4.2`. */
export type SceneName = `${Subject}-${Version}`;

/** The subject and version of a scene. */
export function sceneParts(scene: SceneName): { readonly subject: Subject; readonly version: Version } {
  const at = scene.lastIndexOf('-');
  return { subject: scene.slice(0, at) as Subject, version: scene.slice(at + 1) as Version };
}

/** The scenes of one machine. */
export function scenesOf(kernel: Kernel, wanted: readonly Subject[], on: readonly Version[]): SceneName[] {
  const here = kernel === kernels[0] ? subjectNames : ON_OLD_KERNELS;
  return on.flatMap((version) =>
    here.filter((subject) => wanted.includes(subject)).map((subject): SceneName => `${subject}-${version}`),
  );
}
