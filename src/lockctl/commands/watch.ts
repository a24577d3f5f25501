/** `watch`: changes as they happen. */
import type { Command } from 'commander';
import { type Change, changesEvent, ChangeType, inquireProgram } from '../../../xdr/programs/inquire.ts';
import type { Context } from '../context.ts';
import { type Daemon, explain } from '../daemon.ts';
import { holder, holdJson, json, mode, name, owner, print, refusalJson, style, time } from '../output.ts';

/** How often the daemon is asked whether it is still the one that sends events, in milliseconds. */
const HEARTBEAT_MS = 5000;

export function addWatch(program: Command, context: Context): void {
  program
    .command('watch')
    .description('print locks, refusals and connections as they come and go, until interrupted')
    .option('--json', 'one JSON object a line')
    .option('--no-clients', 'leave out connections')
    .action(async (options: { json?: true; clients: boolean }) => {
      for await (const changes of followChanges(context.daemon(), context.signal)) {
        for (const change of changes) {
          const isClient = change.type === ChangeType.CONNECTED || change.type === ChangeType.DISCONNECTED;
          if (isClient && !options.clients) continue;
          print(options.json === true ? json(changeJson(change)) : describe(change));
        }
      }
    });
}

/** Changes from now on. Ends when `signal` aborts. @throws CommandError when the daemon ends, or is exchanged for a C one */
export async function* followChanges(daemon: Daemon, signal: AbortSignal): AsyncGenerator<Change[]> {
  const client = await daemon.adminClient();
  const { number, payload } = changesEvent;
  const events = client.events(inquireProgram, number, payload);
  try {
    await client.call(inquireProgram, 'subscribe', { flags: 0 }, { signal });
  } catch (error) {
    throw explain(error, daemon.target.name);
  }
  let failure: unknown;
  const stop = (): void => {
    client.close();
  };
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  const heartbeat = setInterval(() => {
    // After a swap the C daemon keeps the connection, and sends nothing.
    client.call(inquireProgram, 'counters', { flags: 0 }).catch((error: unknown) => {
      failure ??= error;
      client.close();
    });
  }, HEARTBEAT_MS);
  try {
    for await (const { changes } of events) yield changes;
  } finally {
    clearInterval(heartbeat);
    signal.removeEventListener('abort', stop);
  }
  if (signal.aborted) return;
  if (failure !== undefined) throw explain(failure, daemon.target.name);
  await daemon.adminClient(); // says why it is gone, or that it is another one now
}

function describe(change: Change): string {
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
      const { time: when, path, owner: who, holder: by, reason } = change.value;
      const why = by === null ? name(reason) : `held by ${holder(by)}`;
      return `${time(when)} ${style('red', 'refused')}  ${name(path)} ${mode(change.value)} ${owner(who)}: ${why}`;
    }
    case ChangeType.CONNECTED:
    case ChangeType.DISCONNECTED: {
      const { time: when, client, pid } = change.value;
      const verb = change.type === ChangeType.CONNECTED ? 'connected' : 'disconnected';
      return `${time(when)} ${style('dim', verb)} client ${client}, pid ${pid}`;
    }
    case ChangeType.MISSED:
      return style('yellow', `${change.value} changes were missed: this end is too slow`);
    case ChangeType.RESUMED:
      return style('yellow', `${time(change.value)} the daemon executed its program anew`);
  }
}

function changeJson(change: Change): Record<string, unknown> {
  switch (change.type) {
    case ChangeType.ACQUIRED:
    case ChangeType.RELEASED: {
      const { time: when, lock } = change.value;
      return {
        change: change.type === ChangeType.ACQUIRED ? 'acquired' : 'released',
        time: new Date(when).toISOString(),
        lockspace: name(lock.lockspace),
        name: name(lock.name),
        path: name(lock.path),
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
    case ChangeType.MISSED:
      return { change: 'missed', count: change.value };
    case ChangeType.RESUMED:
      return { change: 'resumed', time: new Date(change.value).toISOString() };
  }
}
