/** `watch`: changes as they happen. */
import type { Command } from 'commander';
import {
  type Change,
  changesEvent,
  ChangeType,
  Holding,
  inquireProgram,
  type StatusInfo,
} from '../../../../xdr/programs/inquire.ts';
import { ConnectionLost } from '../../../client/errors.ts';
import type { Context } from '../context.ts';
import type { InquireClient } from '../inquire-client.ts';
import { CommandError, Exit } from '../exit.ts';
import {
  cause,
  count,
  holdingText,
  holdJson,
  json,
  lossCause,
  mode,
  name,
  nameJson,
  type NotedRefusal,
  owner,
  print,
  refusalJson,
  style,
  time,
} from '../output.ts';

/** Milliseconds between two checks that the daemon still sends events. */
const HEARTBEAT_MS = 5000;

export function addWatch(program: Command, context: Context): void {
  program
    .command('watch')
    .description('print locks, refusals and connections as they come and go, until interrupted')
    .option('--json', 'print one JSON object a line')
    .option('--no-clients', 'omit connections')
    .action(async (options: { json?: true; clients: boolean }) => {
      const daemon = context.daemon();
      for await (const changes of followChanges(daemon, context.untilInterrupted())) {
        for (const change of await withNotes(daemon, changes)) {
          const isClient = change.type === ChangeType.CONNECTED || change.type === ChangeType.DISCONNECTED;
          if (isClient && !options.clients) continue;
          print(options.json === true ? json(changeJson(change)) : describe(change));
        }
      }
    });
}

/** A change, and with a refusal what the holder had noted. */
type Noted<C> = C extends { readonly type: typeof ChangeType.REFUSED }
  ? Omit<C, 'value'> & { readonly value: NotedRefusal }
  : C;
type NotedChange = Noted<Change>;

async function withNotes(daemon: InquireClient, changes: readonly Change[]): Promise<NotedChange[]> {
  const refusals = changes.flatMap((change) => (change.type === ChangeType.REFUSED ? [change.value] : []));
  const noted = (await daemon.withNotes(refusals)).values();
  return changes.map((change) => {
    if (change.type !== ChangeType.REFUSED) return change;
    return { ...change, value: noted.next().value ?? { ...change.value, notes: [] } };
  });
}

/** Changes from now on, until `signal` aborts. @throws CommandError when the daemon ends or becomes libvirt's */
export async function* followChanges(daemon: InquireClient, signal: AbortSignal): AsyncGenerator<Change[]> {
  const stop = (): void => daemon.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    yield* changesOf(daemon, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Changes until the connection is lost. @throws CommandError unless the signal has aborted */
async function* changesOf(daemon: InquireClient, signal: AbortSignal): AsyncGenerator<Change[]> {
  const client = await daemon.adminClient();
  const { number, payload } = changesEvent;
  const events = client.events(inquireProgram, number, payload);
  const begun = await daemon.status();
  const flags = await daemon.subscribeFlags();
  const subscribe = async (): Promise<void> => client.call(inquireProgram, 'subscribe', { flags });
  await daemon.ask(subscribe);
  let failure: unknown;
  const heartbeat = setInterval(() => {
    // A swap to the C daemon ends the events but not the connection. After a swap back they need a new subscription.
    subscribe().catch((error: unknown) => {
      failure ??= error;
      client.close();
    });
  }, HEARTBEAT_MS);
  try {
    for await (const { changes } of events) yield changes;
  } finally {
    clearInterval(heartbeat);
  }
  if (signal.aborted) return;
  if (failure !== undefined && !(failure instanceof ConnectionLost)) throw await daemon.explain(failure);
  throw whyLost(daemon.target.name, begun, await daemon.status());
}

/** A re-execution keeps connections. So either the daemon has ended, or it has closed this connection. */
function whyLost(daemon: string, begun: StatusInfo, now: StatusInfo): CommandError {
  if (begun.pid === now.pid && begun.started === now.started) {
    return new CommandError(Exit.NO, `the daemon (${daemon}, pid ${now.pid}) runs, but has closed this connection.`);
  }
  return new CommandError(
    Exit.DOWN,
    `the daemon (${daemon}, pid ${begun.pid}) has ended; another one, pid ${now.pid}, answers since ${time(now.started)}.`,
  );
}

function describe(change: NotedChange): string {
  switch (change.type) {
    case ChangeType.ACQUIRED:
    case ChangeType.RELEASED: {
      const { time: when, lock } = change.value;
      const [hold] = lock.holds;
      const acquired = change.type === ChangeType.ACQUIRED;
      const verb = style(acquired ? 'green' : 'cyan', acquired ? 'acquired' : 'released');
      return `${time(when)} ${verb} ${name(lock.path)} ${mode(lock)} ${hold === undefined ? '' : owner(hold.owner)}`;
    }
    case ChangeType.REFUSED: {
      const { time: when, path, owner: who } = change.value;
      return `${time(when)} ${style('red', 'refused')}  ${name(path)} ${mode(change.value)} ${owner(who)}: ${cause(change.value)}`;
    }
    case ChangeType.CONNECTED:
    case ChangeType.DISCONNECTED: {
      const { time: when, client, pid } = change.value;
      const verb = change.type === ChangeType.CONNECTED ? 'connected' : 'disconnected';
      return `${time(when)} ${style('dim', verb)} client ${client}, pid ${pid}`;
    }
    case ChangeType.LOST: {
      const { time: when, lock } = change.value;
      const owners = lock.holds.map(({ owner: who }) => owner(who)).join(', ');
      const isHeld = change.value.holding === Holding.REGAINED;
      const verb = style(isHeld ? 'yellow' : 'red', isHeld ? 'regained' : 'lost    ');
      return `${time(when)} ${verb} ${name(lock.path)} ${mode(lock)} ${owners}: ${lossCause(change.value)}`;
    }
    case ChangeType.MISSED:
      return style('yellow', `missed ${count(change.value, 'change')}, which were read too slowly`);
    case ChangeType.RESUMED:
      return style('yellow', `${time(change.value)} the daemon has re-executed itself`);
  }
}

function changeJson(change: NotedChange): Record<string, unknown> {
  switch (change.type) {
    case ChangeType.ACQUIRED:
    case ChangeType.RELEASED: {
      const { time: when, lock } = change.value;
      return {
        change: change.type === ChangeType.ACQUIRED ? 'acquired' : 'released',
        time: new Date(when).toISOString(),
        ...nameJson('lockspace', lock.lockspace),
        ...nameJson('name', lock.name),
        ...nameJson('path', lock.path),
        mode: mode(lock),
        owners: lock.holds.map(holdJson),
      };
    }
    case ChangeType.REFUSED:
      return { change: 'refused', ...refusalJson(change.value) };
    case ChangeType.CONNECTED:
    case ChangeType.DISCONNECTED: {
      const { time: when, client, pid } = change.value;
      return {
        change: change.type === ChangeType.CONNECTED ? 'connected' : 'disconnected',
        time: new Date(when).toISOString(),
        client,
        pid,
      };
    }
    case ChangeType.LOST: {
      const { time: when, lock, holding, confirmed, pid } = change.value;
      return {
        change: 'lost',
        time: new Date(when).toISOString(),
        ...nameJson('lockspace', lock.lockspace),
        ...nameJson('name', lock.name),
        ...nameJson('path', lock.path),
        mode: mode(lock),
        owners: lock.holds.map(holdJson),
        holding: holdingText(holding),
        confirmed: confirmed === 0 ? null : new Date(confirmed).toISOString(),
        ...(pid === 0 ? {} : { pid }),
      };
    }
    case ChangeType.MISSED:
      return { change: 'missed', count: change.value };
    case ChangeType.RESUMED:
      return { change: 'resumed', time: new Date(change.value).toISOString() };
  }
}
