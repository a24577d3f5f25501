/**
 * systemd's watchdog: WatchdogSec= in the unit. Whoever does not say in that time that it goes on is killed, and started again.
 *
 * That serves the guests only while every lock would outlive the daemon; one that would not is free then, so the watchdog is off for
 * as long as there is one. And no other program may find it on: a C daemon, and releases of ours that know nothing of it, would be
 * killed for their silence.
 */
import type { Environment } from './systemd.ts';

/** A timer that calls back until it is stopped. */
export type Repeat = (callback: () => void, ms: number) => { readonly stop: () => void };

/**
 * A timer of the loop that serves clients: it is late when that is. It keeps no process alive.
 */
const repeat: Repeat = (callback, ms) => {
  const timer = setInterval(callback, ms).unref();
  return {
    stop: () => {
      clearInterval(timer);
    },
  };
};

/** What it needs of the daemon. */
export interface Watched {
  /** Whether a daemon that is killed now would lose no lock. Asked twice in the time, and at each `update`. */
  readonly everyLockWouldOutlive: () => boolean;
  /** Sends lines to systemd; see Notifier. */
  readonly notify: (state: string) => void;
  readonly repeat?: Repeat;
}

export class Watchdog {
  /** In microseconds; 0 when the unit has none. */
  readonly #interval: number;
  readonly #watched: Watched;
  #isOn = false;
  #timer: ReturnType<Repeat> | undefined;

  /** Takes WATCHDOG_USEC and WATCHDOG_PID out of the environment. */
  constructor(environment: Environment, pid: number, watched: Watched) {
    const { WATCHDOG_USEC, WATCHDOG_PID } = environment;
    delete environment.WATCHDOG_USEC;
    delete environment.WATCHDOG_PID;
    const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid);
    this.#interval = isOurs && WATCHDOG_USEC !== undefined && /^[0-9]{1,15}$/.test(WATCHDOG_USEC) ? +WATCHDOG_USEC : 0;
    this.#watched = watched;
  }

  /** What the successor of a re-execution needs in its environment. */
  get environment(): Environment {
    return this.#interval === 0 ? {} : { WATCHDOG_USEC: String(this.#interval) };
  }

  /** Begins, once the daemon serves. */
  start(): void {
    if (this.#interval === 0 || this.#timer !== undefined) return;
    // Half of the time, as sd_watchdog_enabled(3) asks for.
    this.#timer = (this.#watched.repeat ?? repeat)(() => {
      this.#feed();
    }, this.#interval / 2000);
    // Said in any case: systemd has switched it on for a process that it started, and the program before this one off.
    this.#isOn = !this.#watched.everyLockWouldOutlive();
    this.#feed();
  }

  /** Call it when a lock comes that would not outlive the daemon, before that is granted; it may be called at any time. */
  update(): void {
    if (this.#timer === undefined) return;
    const isToBeOn = this.#watched.everyLockWouldOutlive();
    if (isToBeOn === this.#isOn) return;
    this.#isOn = isToBeOn;
    // Whatever the unit says: it counts for this process alone.
    this.#watched.notify(`WATCHDOG_USEC=${isToBeOn ? this.#interval : 0}`);
  }

  /** Before another program is executed, or the daemon ends its owners and itself, which takes as long as it takes. */
  stop(): void {
    if (this.#timer === undefined) return;
    this.#timer.stop();
    this.#timer = undefined;
    this.#isOn = false;
    this.#watched.notify('WATCHDOG_USEC=0');
  }

  #feed(): void {
    this.update();
    if (this.#isOn) this.#watched.notify('WATCHDOG=1');
  }
}
