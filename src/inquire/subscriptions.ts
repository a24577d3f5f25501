/**
 * Events. Changes are collected for a moment and sent to all subscribers as one message. For a subscriber that does not read, the
 * daemon keeps one message at most; it misses all further changes, and gets their number later.
 */
import { XdrWriter } from '../../xdr/codec.ts';
import { beginMessage, endMessage, MessageStatus, MessageType } from '../../xdr/frame.ts';
import { type Change, changesEvent, CHANGES_MAX, ChangeType, inquireProgram } from '../../xdr/programs/inquire.ts';
import type { Connection } from '../rpc/connection.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { RpcError } from '../libvirt/errors.ts';

/** How long changes are collected, and how often a subscriber that missed some is tried again, in milliseconds. */
const GATHER_MS = 20;
const RETRY_MS = 200;
/** A message is sent once the names in it have so many bytes. */
const GATHER_BYTES = 512 * 1024;
/** Limited, for each may have a message waiting. */
const MAX_SUBSCRIBERS = 64;

/** A client of the inquire program. Both fields outlive a restart. */
export interface Subscriber {
  /** Sends its events. */
  readonly connection: Pick<Connection, 'isOpen' | 'sendEvent'>;
  /** Whether it gets events. */
  subscribed: boolean;
  /** How many events it has missed. */
  missed: number;
  /** Whether it knows events of locks that were lost. */
  knowsLosses?: boolean;
}

export class Subscriptions {
  private readonly subscribers = new Set<Subscriber>();
  private gathered: Change[] = [];
  private bytes = 0;
  private timer: NodeJS.Timeout | undefined;

  get count(): number {
    return this.subscribers.size;
  }

  /** @throws RpcError when there are too many */
  add(subscriber: Subscriber, knowsLosses = false): void {
    subscriber.knowsLosses = knowsLosses;
    if (this.subscribers.has(subscriber)) return;
    if (this.subscribers.size >= MAX_SUBSCRIBERS) {
      throw new RpcError(
        ErrorCode.OPERATION_DENIED,
        ErrorDomain.RPC,
        `there are ${MAX_SUBSCRIBERS} subscribers already`,
      );
    }
    // Changes from before are not for the new one.
    this.flush();
    subscriber.subscribed = true;
    subscriber.missed = 0;
    this.subscribers.add(subscriber);
  }

  remove(subscriber: Subscriber): void {
    subscriber.subscribed = false;
    this.subscribers.delete(subscriber);
  }

  /** Resumes subscriptions from before a restart, and reports the restart to them. */
  resume(subscribers: Iterable<Subscriber>, now: number): void {
    for (const subscriber of subscribers) this.subscribers.add(subscriber);
    if (this.count > 0) this.gather({ type: ChangeType.RESUMED, value: now }, 0);
  }

  /** @param describe called only if there are subscribers @param size approximate bytes of the names */
  publish(describe: () => Change, size: number): void {
    if (this.subscribers.size > 0) this.gather(describe(), size);
  }

  private gather(change: Change, size: number): void {
    this.gathered.push(change);
    this.bytes += size;
    if (this.gathered.length >= CHANGES_MAX - 1 || this.bytes >= GATHER_BYTES) this.flush();
    else this.timer ??= setTimeout(this.onTimer, GATHER_MS).unref();
  }

  private readonly onTimer = (): void => {
    this.timer = undefined;
    this.flush();
  };

  /** Sends the collected changes; also called before a re-execution. */
  flush(): void {
    const changes = this.gathered;
    this.gathered = [];
    this.bytes = 0;
    const all = new Lazy(() => encode(changes));
    const known = changes.filter(({ type }) => type !== ChangeType.LOST);
    const older = known.length === changes.length ? all : new Lazy(() => encode(known));
    let waiting = false;
    for (const subscriber of this.subscribers) {
      if (!subscriber.connection.isOpen) {
        this.subscribers.delete(subscriber);
        continue;
      }
      const isOlder = subscriber.knowsLosses !== true;
      const { length } = isOlder ? known : changes;
      if (subscriber.missed > 0) {
        subscriber.missed += length;
        const missed: Change = { type: ChangeType.MISSED, value: subscriber.missed };
        if (subscriber.connection.sendEvent(encode([missed]))) subscriber.missed = 0;
        else waiting = true;
      } else if (length > 0) {
        if (!subscriber.connection.sendEvent((isOlder ? older : all).value)) {
          subscriber.missed = length;
          waiting = true;
        }
      }
    }
    if (waiting) this.timer ??= setTimeout(this.onTimer, RETRY_MS).unref();
  }
}

/** Made when it is first needed. */
class Lazy<T> {
  private readonly make: () => T;
  private made: { readonly value: T } | undefined;

  constructor(make: () => T) {
    this.make = make;
  }

  get value(): T {
    return (this.made ??= { value: this.make() }).value;
  }
}

function encode(changes: Change[]): Buffer {
  const writer = new XdrWriter(16 * 1024);
  const start = beginMessage(writer, {
    program: inquireProgram.number,
    version: inquireProgram.version,
    procedure: changesEvent.number,
    type: MessageType.MESSAGE,
    serial: 0,
    status: MessageStatus.OK,
  });
  changesEvent.payload.write(writer, { changes });
  endMessage(writer, start);
  return writer.bytes();
}
