/**
 * Calls of the inquire program, an extension of this project. A daemon without it must answer as for any program that it does
 * not know.
 */
import assert from 'node:assert/strict';
import { XdrReader, XdrWriter } from '../../../../../xdr/codec.ts';
import type { ArgsOf, Procedure, ResultOf } from '../../../../../xdr/program.ts';
import {
  type Change,
  changesEvent,
  inquireProcedures,
  inquireProgram,
  type LockFilter,
  type LockInfo,
} from '../../../../../xdr/programs/inquire.ts';
import type { CheckContext, NotedPeer } from '../../check-context.ts';
import { Skipped, type WrittenCheck, writtenCheck } from '../../check.ts';
import type { Daemon } from '../../../../lab/daemon.ts';
import type { Call, Message, WireError } from '../../../../lab/wire.ts';
import { DaemonScene } from '../daemon-scene.ts';

type Procedures = typeof inquireProcedures;
type Name = keyof Procedures;

export const all: LockFilter = { lockspace: null, resource: null, path: null, pid: null, uuid: null, owner: null };

export function inquireCall<N extends Name>(name: N, args: ArgsOf<Procedures[N]>): Call {
  const writer = new XdrWriter();
  const { number, args: type } = inquireProcedures[name] as Procedure<unknown, unknown>;
  type.write(writer, args);
  return { program: inquireProgram.number, procedure: number, payload: Buffer.from(writer.bytes()) };
}

/** A call of the program with any procedure and payload. */
export const rawCall = (procedure: number, payload: Buffer = Buffer.alloc(0)): Call => ({
  program: inquireProgram.number,
  procedure,
  payload,
});

/** Whether an error is the one of a daemon that does not know the program. */
export function isUnknownProgram({ code, domain, message }: WireError): boolean {
  return code === 39 && domain === 7 && message === `Cannot find program ${inquireProgram.number} version 1`;
}

/** A connection to the admin socket that makes calls of the program. */
class Inquirer {
  readonly peer: NotedPeer;

  constructor(peer: NotedPeer) {
    this.peer = peer;
  }

  /** The call is not noted: its result differs from run to run. @throws Error with the daemon's message */
  async ask<N extends Name>(name: N, args: ArgsOf<Procedures[N]>): Promise<ResultOf<Procedures[N]>> {
    const { payload } = await this.peer.peer.must(inquireCall(name, args));
    const { result } = inquireProcedures[name] as Procedure<unknown, ResultOf<Procedures[N]>>;
    return result.read(new XdrReader(payload));
  }

  /** The locks that fit a filter. `flags` as of LOCKS; `limit` entries a page. */
  async locks(filter: Partial<LockFilter> = {}, { flags = 0, limit = 0 } = {}): Promise<LockInfo[]> {
    const found: LockInfo[] = [];
    let cursor = 0n;
    do {
      const page = await this.ask('locks', { filter: { ...all, ...filter }, cursor, limit, flags });
      if (limit > 0) assert.ok(page.locks.length <= limit, 'a page is longer than was asked for');
      found.push(...page.locks);
      cursor = page.next;
    } while (cursor !== 0n);
    return found;
  }

  /** The next event's changes. */
  async changes(): Promise<Change[]> {
    const message: Message | undefined = await this.peer.peer.receive();
    assert.ok(message !== undefined, 'the connection ended');
    const { program, procedure, type, serial, status, payload } = message;
    assert.deepEqual([program, procedure, type, serial, status], [inquireProgram.number, changesEvent.number, 2, 0, 0]);
    return changesEvent.payload.read(new XdrReader(payload)).changes;
  }

  /** The next change of that type. */
  async change<T extends Change['type']>(type: T): Promise<Change & { readonly type: T }> {
    for (;;) {
      const found = (await this.changes()).find((one): one is Change & { readonly type: T } => one.type === type);
      if (found !== undefined) return found;
    }
  }
}

export class Scene extends DaemonScene {
  readonly inquirer: Inquirer;

  private constructor(context: CheckContext, daemon: Daemon, inquirer: Inquirer) {
    super(context, daemon);
    this.inquirer = inquirer;
  }

  /** @throws Skipped when the daemon answers that it does not know the program */
  static async open(context: CheckContext): Promise<Scene> {
    const daemon = await context.start();
    const inquirer = new Inquirer(await context.connectAdmin());
    const error = await inquirer.peer.ask(inquireCall('counters', { flags: 0 }));
    if (error !== undefined && isUnknownProgram(error))
      throw new Skipped('an extension that this daemon does not have');
    assert.equal(error, undefined);
    return new Scene(context, daemon, inquirer);
  }

  /** Another connection to the admin socket. */
  async another(): Promise<Inquirer> {
    return new Inquirer(await this.context.connectAdmin());
  }
}

/** The only element. */
export function only<T>(list: readonly T[]): T {
  const [one] = list;
  assert.ok(one !== undefined && list.length === 1, `${list.length} instead of one`);
  return one;
}

/** A check of the extension; skipped for a daemon without it. */
export function inquireCheck(title: string, promise: string, body: (scene: Scene) => Promise<void>): WrittenCheck {
  return writtenCheck('inquire', title, `Extension: ${promise}`, async (context) => body(await Scene.open(context)));
}
