/** What is played, and how each scene is to end. */

/** The scenes in their order, and what each shows. The machine goes on after the first ones, and is reset by the others. */
export const scenes = {
  life: 'the device counts while a lock is held, and stands still without one and after the daemon; its owner may end, or release',
  restart:
    'SIGUSR1, kill -9 of the daemon with a descriptor store, kill -9 and SIGSTOP of the guard: no reset, and the lock stays',
  frozen: 'SIGSTOP of daemon and guard while a lock is held',
  unkillable: 'an owner in uninterruptible sleep when the lease ends, with etcd_fence = "reboot"',
  unrebootable: 'the same, where the guard may not reboot the host',
  hang: 'a kernel whose processors run nothing but loops of the highest real-time priority',
} as const;
export type Scene = keyof typeof scenes;

export const sceneNames = Object.keys(scenes) as Scene[];

/** By what a scene ends: `either` the device or the guard's own reboot. */
export const endings: Readonly<Record<Scene, 'nothing' | 'watchdog' | 'either'>> = {
  life: 'nothing',
  restart: 'nothing',
  frozen: 'watchdog',
  unkillable: 'either',
  unrebootable: 'watchdog',
  hang: 'watchdog',
};

/** Of the lease: the default. */
export const LEASE_SECONDS = 30;
/** After which the device resets the machine: a sixteenth less than the margin of that lease, which is a quarter of it. */
export const WATCHDOG_SECONDS = 7;

/** The directory that is kept in etcd. */
export const SPACE = '/var/lib/libvirt/lockd/etcd';

/** The plan that the machine finds beside the checkout. */
export interface Plan {
  readonly scenes: readonly Scene[];
  /** Of etcd, as the machine reaches it. */
  readonly endpoint: string;
}
