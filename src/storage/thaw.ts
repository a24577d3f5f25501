/**
 * Where a name can be made or removed without a wait. The daemon calls local file systems itself, for they answer, but a frozen one (fsfreeze,
 * an LVM snapshot, a suspended device) keeps everybody who makes or removes a name there waiting until it is thawed, and no signal ends
 * that. The kernel tells nobody that a file system is frozen. So a helper tries to write to it, and the daemon makes its own call just after that.
 *
 * One that makes many calls does not wait for each trial: a directory is trusted for a moment, and tried again meanwhile. Only a freeze
 * in the midst of such a burst can catch the daemon.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { now } from '../posix/clock.ts';
import { absolutePath, type Place } from '../proc/route.ts';
import type { Helper } from './helper.ts';
import { Operation, type Request } from './messages.ts';

/** How old a trial is that is done again, in milliseconds. */
const RENEW_MS = 5;
/** How old a trial may be that is trusted. */
const TRUST_MS = 10;
/** How long the next trial may take: where the processors are busy, a helper waits for its turn. */
const PATIENCE_MS = 50;
/** Directories that are remembered. */
const MAX_TRIALS = 256;

interface Trial {
  /** Who does it; null: nobody need. */
  readonly trier: Trier | null;
  /** When it has ended. */
  at: number;
  /** When the next one began; 0: none has. */
  next: number;
}

/** What a trial needs of a helper. */
interface Trier extends Pick<Helper, 'place' | 'isDead' | 'isUp' | 'awaitStart'> {
  call(request: Request, pid: number, done: () => void): unknown;
}

/** Storages. */
interface Helpers {
  /** The file system in which a call for the path makes a name, if it may be frozen. */
  freezableAt(path: ByteString): Place | null;
  /** Null: there can be none now. */
  helperAt(place: Place): Trier | null;
}

export class Thaws {
  private readonly helpers: Helpers;
  private readonly clock: () => number;
  /** By directory. */
  private readonly trials = new Map<ByteString, Trial>();

  constructor(helpers: Helpers, clock = now) {
    this.helpers = helpers;
    this.clock = clock;
  }

  /** Whether a call that makes or removes the name need not wait for a trial. */
  isTrusted(directory: ByteString, name: ByteString): boolean {
    const trial = this.trials.get(parentOf(directory, name));
    if (trial === undefined || trial.trier?.isDead === true) return false;
    const time = this.clock();
    if (trial.next !== 0) return time - trial.next < PATIENCE_MS;
    const age = time - trial.at;
    if (age >= TRUST_MS) return false;
    if (age >= RENEW_MS) this.renew(trial, time, directory === '' ? name : `${directory}/${name}`);
    return true;
  }

  /** The helper that is to try the file system in which the path is; null when it need not, or none can be had. */
  trierFor(path: ByteString): Trier | null {
    const place = this.helpers.freezableAt(path);
    return place === null ? null : this.helpers.helperAt(place);
  }

  /** The file system of the name has been tried just now, unless it need not be (null). */
  tried(directory: ByteString, name: ByteString, trier: Trier | null): void {
    if (this.trials.size >= MAX_TRIALS) this.forget();
    this.trials.set(parentOf(directory, name), { trier, at: this.clock(), next: 0 });
  }

  /** Mounts have changed. */
  forget(): void {
    this.trials.clear();
  }

  private renew(trial: Trial, time: number, path: ByteString): void {
    const { trier } = trial;
    if (trier === null) return;
    trial.next = time;
    trier.call(trialOf(path), 0, () => {
      trial.at = this.clock();
      trial.next = 0;
    });
  }
}

export function trialOf(path: ByteString): Request {
  return { operation: Operation.TRY_WRITE, path: absolutePath(path) };
}

function parentOf(directory: ByteString, name: ByteString): ByteString {
  const slash = name.lastIndexOf('/');
  if (slash < 0) return directory;
  return directory === '' ? name.slice(0, slash) : `${directory}/${name.slice(0, slash)}`;
}
