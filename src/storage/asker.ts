/**
 * What the present call of a connection asks of storage that may hang. The handler asks as if it waited for the answer: the first
 * time it throws {@link Waiting}, and when the answer is there the connection calls it again. Then it gets the answers in the order of its
 * questions. So it must ask the same again until it has them all, and change nothing before.
 *
 * Calls for one path take turns, in the order in which they came.
 */
import type { ByteString } from '../../xdr/codec.ts';
import { type Ending, Waiting } from '../rpc/waiting.ts';
import { type Helper, undoing } from './helper.ts';
import { type Answer, Operation, type Request } from './messages.ts';

/** Waits for what the handler will find when it is called again. */
class Awaited extends Waiting {}

interface Asked {
  /** The one that has answered. */
  readonly helper: Helper;
  readonly request: Request;
  /** Null: the helper has died. */
  readonly answer: Answer | null;
}

/** What was found out elsewhere than at a helper. */
interface Found {
  readonly question: string;
  readonly answer: unknown;
  /** Undoes it, if nobody makes use of the answer. */
  readonly discard: () => void;
}

/** Gets an answer. `discard` undoes what was asked for, if the call makes no use of it. */
export type OnFound<T> = (answer: T, discard: () => void) => void;

export class Asker {
  private readonly turns: Turns;
  private readonly answers: (Asked | Found | null)[] = [];
  private next = 0;
  private forgetCall: (() => void) | null = null;
  /** See {@link forgetLast}. */
  private hasForgotten = false;
  /** The path whose turn it has or waits for. */
  private path: ByteString | null = null;

  constructor(turns: Turns) {
    this.turns = turns;
  }

  /** Runs a handler, which may ask. */
  run<T>(handler: () => T): T {
    this.next = 0;
    try {
      const result = handler();
      this.end();
      return result;
    } catch (error) {
      // Who waits for another reason finds another answer then, and must not keep from the path whom it waits for.
      if (!(error instanceof Awaited)) this.end();
      throw error;
    }
  }

  /** Goes on when all calls for the path are done that came before. @throws Waiting until then */
  enter(path: ByteString): void {
    this.path = path;
    if (this.turns.has(path, this)) return;
    throw new Awaited((done) => this.turns.wait(path, this, done));
  }

  /** The next question has its answer. */
  get hasAnswer(): boolean {
    return this.next < this.answers.length;
  }

  /** Nobody has a turn, or waits for one. */
  get isAlone(): boolean {
    return this.turns.isEmpty;
  }

  /** Nobody has the path's turn. */
  isFree(path: ByteString): boolean {
    return !this.turns.isTaken(path);
  }

  /** @throws Waiting until there is an answer; null: the helper has died */
  ask(helperOf: () => Helper, request: Request, pid: number): Asked {
    const asked = this.answers[this.next];
    if (asked !== undefined && asked !== null) {
      if (!('question' in asked) && isSame(asked.request, request)) {
        this.next++;
        return asked;
      }
      // Of another way.
      this.drop();
    }
    const asking = helperOf();
    throw new Awaited((done) => {
      this.forgetCall = asking.call(request, pid, (answer, helper) => {
        this.forgetCall = null;
        this.answers.push({ helper, request, answer });
        done();
      });
      return () => undefined;
    });
  }

  /**
   * As {@link ask}, of others than helpers.
   *
   * @param question as text, by which the answer is found when the call is made again
   * @param begin asks. Returns a function that forgets the question: what was asked for is undone when it comes about
   * @throws Waiting until there is an answer
   */
  find<T>(question: string, begin: (onFound: OnFound<T>) => () => void): T {
    const found = this.answers[this.next];
    if (found !== undefined && found !== null) {
      if ('question' in found && found.question === question) {
        this.next++;
        return found.answer as T;
      }
      this.drop();
    }
    throw new Awaited((done) => {
      this.forgetCall = begin((answer, discard) => {
        this.forgetCall = null;
        this.answers.push({ question, answer, discard });
        done();
      });
      return () => undefined;
    });
  }

  /** Has the last question asked again, once in a call. False when that was done already. */
  forgetLast(): boolean {
    if (this.hasForgotten) return false;
    this.hasForgotten = true;
    this.answers.splice(--this.next, 1);
    return true;
  }

  /** Whether the call has waited for an ending already: see {@link awaitEnding}. */
  get hasAwaited(): boolean {
    return this.answers[this.next] === null;
  }

  /** Waits for the process of a helper. @throws Waiting */
  awaitStart(helper: Pick<Helper, 'awaitStart'>): never {
    throw new Awaited((done) => helper.awaitStart(done));
  }

  /** @throws Waiting */
  awaitEnding(ending: Ending): never {
    throw new Awaited((done) =>
      ending.wait(() => {
        this.answers.push(null);
        done();
      }),
    );
  }

  /** The connection has ended: what it has asked for is undone, or forgotten. */
  abandon(): void {
    this.forgetCall?.();
    this.next = 0;
    this.end();
  }

  /** Undoes the acquires that the handler has not asked for again: it has found another way, or another reason to refuse. */
  private drop(): void {
    for (const asked of this.answers.splice(0).slice(this.next)) {
      if (asked !== null && 'question' in asked) {
        asked.discard();
        continue;
      }
      if (asked?.answer?.status !== 0 || asked.request.operation !== Operation.ACQUIRE || asked.helper.isDead) continue;
      asked.helper.call(undoing(asked.request, asked.answer.file), 0, () => undefined, { isUrgent: true });
    }
  }

  private end(): void {
    this.forgetCall = null;
    this.hasForgotten = false;
    this.drop();
    if (this.path !== null) this.turns.leave(this.path, this);
    this.path = null;
  }
}

function isSame(one: Request, other: Request): boolean {
  return one.operation === other.operation && one.path === other.path;
}

interface Turn {
  readonly asker: Asker;
  begin: (() => void) | null;
}

/** By path: whose turn it is, then who waits. */
export class Turns {
  private readonly queues = new Map<ByteString, Turn[]>();

  get isEmpty(): boolean {
    return this.queues.size === 0;
  }

  isTaken(path: ByteString): boolean {
    return this.queues.has(path);
  }

  /** Whether it is the asker's turn; queues it if it is not. */
  has(path: ByteString, asker: Asker): boolean {
    const queue = this.queues.get(path);
    if (queue === undefined) this.queues.set(path, [{ asker, begin: null }]);
    else if (queue[0]?.asker !== asker && !queue.some((turn) => turn.asker === asker))
      queue.push({ asker, begin: null });
    return queue === undefined || queue[0]?.asker === asker;
  }

  /** Calls `begin` when it is the asker's turn. */
  wait(path: ByteString, asker: Asker, begin: () => void): () => void {
    const turn = this.queues.get(path)?.find((one) => one.asker === asker);
    if (turn !== undefined) turn.begin = begin;
    return () => undefined;
  }

  leave(path: ByteString, asker: Asker): void {
    const queue = this.queues.get(path);
    if (queue === undefined) return;
    const isFirst = queue[0]?.asker === asker;
    const index = queue.findIndex((turn) => turn.asker === asker);
    if (index >= 0) queue.splice(index, 1);
    const [first] = queue;
    if (first === undefined) this.queues.delete(path);
    else if (isFirst) first.begin?.();
  }
}
