/**
 * Events of changes. Changes are gathered for a moment and sent to all subscribers as one message. A subscriber that does
 * not take its events makes the daemon hold no more than one message: what comes meanwhile it misses, and is told how much.
 */
import { XdrWriter } from '../../xdr/codec.ts';
import { beginMessage, endMessage, MessageStatus, MessageType } from '../../xdr/frame.ts';
import { type Change, changesEvent, CHANGES_MAX, ChangeType, inquireProgram } from '../../xdr/programs/inquire.ts';
import type { Connection } from '../rpc/connection.ts';
import { ErrorCode, ErrorDomain } from '../../xdr/error.ts';
import { RpcError } from '../libvirt/errors.ts';

/** How long changes are gathered, in milliseconds, and how often somebody who missed some is looked at again. */
const GATHER_MS = 20;
const RETRY_MS = 200;
/** The most that is gathered, by the names in it; one more change and a message is on its way. */
const GATHER_BYTES = 512 * 1024;
/** Every one of them may have a message waiting. */
const SUBSCRIBERS_MAX = 64;

/** A client of the inquire program. Both fields outlive a restart. */
export interface Subscriber {
  /** Sends its events. */
  readonly connection: Pick<Connection, 'isOpen' | 'sendEvent'>;
  /** Whether it gets events. */
  subscribed: boolean;
  /** How many events it has missed. */
  missed: number;
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
  add(subscriber: Subscriber): void {
    if (this.subscribers.has(subscriber)) return;
    if (this.subscribers.size >= SUBSCRIBERS_MAX) {
      throw new RpcError(
        ErrorCode.OPERATION_DENIED,
        ErrorDomain.RPC,
        `there are ${SUBSCRIBERS_MAX} subscribers already`,
      );
    }
    // It is told of nothing that came before.
    this.flush();
    subscriber.subscribed = true;
    subscriber.missed = 0;
    this.subscribers.add(subscriber);
  }

  remove(subscriber: Subscriber): void {
    subscriber.subscribed = false;
    this.subscribers.delete(subscriber);
  }

  /** Takes up those who had subscribed before a restart, with what they had missed by then, and tells them of it. */
  resume(subscribers: Iterable<Subscriber>, now: number): void {
    for (const subscriber of subscribers) this.subscribers.add(subscriber);
    if (this.count > 0) this.gather({ type: ChangeType.RESUMED, value: now }, 0);
  }

  /** A change; `describe` is only called when somebody wants to know, `size` is about the bytes of its names. */
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

  /** Sends what has been gathered: also before the daemon executes its program anew. */
  flush(): void {
    const changes = this.gathered;
    this.gathered = [];
    this.bytes = 0;
    let message: Buffer | undefined;
    let waiting = false;
    for (const subscriber of this.subscribers) {
      if (!subscriber.connection.isOpen) {
        this.subscribers.delete(subscriber);
        continue;
      }
      if (subscriber.missed > 0) {
        subscriber.missed += changes.length;
        const told: Change = { type: ChangeType.MISSED, value: subscriber.missed };
        if (subscriber.connection.sendEvent(encode([told]))) subscriber.missed = 0;
        else waiting = true;
      } else if (changes.length > 0) {
        message ??= encode(changes);
        if (!subscriber.connection.sendEvent(message)) {
          subscriber.missed = changes.length;
          waiting = true;
        }
      }
    }
    if (waiting) this.timer ??= setTimeout(this.onTimer, RETRY_MS).unref();
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
