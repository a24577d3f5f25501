/**
 * Feeds systemd's watchdog (WatchdogSec= in the unit). systemd kills and restarts a daemon that sends no WATCHDOG=1 for that time.
 *
 * The watchdog is on only while every lock would outlive the daemon, because the kill would free any other lock. It is also off whenever
 * another program takes over: systemd would kill a C daemon, or a release of ours without this code, because those never feed it.
 */
import type { Environment } from './systemd.ts';

/** A timer that calls back until it is stopped. */
export type Repeat = (callback: () => void, ms: number) => { readonly stop: () => void };

/**
 * A timer of the loop that serves clients, so that a blocked loop does not feed the watchdog. It does not keep the process alive.
 */
const repeat: Repeat = (callback, ms) => {
  const timer = setInterval(callback, ms).unref();
  return {
    stop: () => {
      clearInterval(timer);
    },
  };
};

/** The watchdog's view of the daemon. */
interface Watched {
  /** Whether a kill would lose no lock, once systemd has been sent all descriptors. Called twice per interval, and at each `update`. */
  readonly everyLockWouldOutlive: () => boolean;
  /** Whether descriptors wait to be sent to systemd. */
  readonly isSending: () => boolean;
  /** Sends lines to systemd; see Notifier. */
  readonly notify: (state: string) => void;
  readonly repeat?: Repeat;
}

export class Watchdog {
  /** In microseconds; 0 when the unit has no watchdog. */
  readonly #interval: number;
  readonly #watched: Watched;
  #isOn = false;
  /** At the last feed. */
  #wasSending = false;
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

  /** Variables for the next program image of this process. */
  get environment(): Environment {
    return this.#interval === 0 ? {} : { WATCHDOG_USEC: String(this.#interval) };
  }

  /** Begins, once the daemon serves. */
  start(): void {
    if (this.#interval === 0 || this.#timer !== undefined) return;
    // Half of the interval, as sd_watchdog_enabled(3) recommends.
    this.#timer = (this.#watched.repeat ?? repeat)(() => {
      this.#feed();
    }, this.#interval / 2000);
    // So that the first update always notifies: systemd switches the watchdog on when it starts a process, but stop() of the previous
    // program image has switched it off.
    this.#wasSending = true;
    this.#isOn = !this.#isToBeOn();
    this.#feed();
  }

  /** Switches the watchdog on or off. Call it before a lock is granted that would not outlive the daemon; other calls are harmless. */
  update(): void {
    if (this.#timer === undefined) return;
    const isToBeOn = this.#isToBeOn();
    if (isToBeOn === this.#isOn) return;
    this.#isOn = isToBeOn;
    // Overrides the unit's WatchdogSec=, for this process alone.
    this.#watched.notify(`WATCHDOG_USEC=${isToBeOn ? this.#interval : 0}`);
  }

  /** Call it before another program is executed, and before the daemon ends its owners, which may take longer than the interval. */
  stop(): void {
    if (this.#timer === undefined) return;
    this.#timer.stop();
    this.#timer = undefined;
    this.#isOn = false;
    this.#watched.notify('WATCHDOG_USEC=0');
  }

  /**
   * systemd takes no descriptors while it executes itself again, for one. A daemon that hangs then would hang for ever if it had switched the
   * watchdog off. So only descriptors that wait from one feed to the next count.
   */
  #isToBeOn(): boolean {
    const { everyLockWouldOutlive, isSending } = this.#watched;
    return everyLockWouldOutlive() && !(isSending() && (this.#wasSending || !this.#isOn));
  }

  #feed(): void {
    this.update();
    this.#wasSending = this.#watched.isSending();
    if (this.#isOn) this.#watched.notify('WATCHDOG=1');
  }
}
