/**
 * virtlockd-etcd: the client of etcd, a process of its own that the daemon starts if etcd is configured. It has no state: the daemon knows
 * what it holds, and starts another one if this one dies. It ends with the daemon's end of its socket.
 */
import { posix } from '../posix/posix.ts';
import { Poller } from '../rpc/poller.ts';
import { EtcdError, Gateway } from './gateway.ts';
import {
  type AnswerMessage,
  Failure,
  type ForgetMessage,
  MAX_MESSAGE,
  type RequestMessage,
  type SettingsMessage,
} from './messages.ts';
import { Etcd } from './operations.ts';
import { Packets } from './packets.ts';

/** The daemon's end is the peer's. */
const SOCKET = 3;

function start(): void {
  posix.setProcessName('virtlockd-etcd');
  // Signals of a terminal or a service manager are the daemon's.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP', 'SIGUSR1'] as const)
    process.on(signal, () => undefined);
  const poller = new Poller();
  let etcd: Etcd | EtcdError = new EtcdError(Failure.REFUSED, 'it has no settings');
  let present = '';
  const packets = new Packets(
    SOCKET,
    poller,
    (message) => {
      const received = message as SettingsMessage | ForgetMessage | RequestMessage;
      if ('forget' in received) {
        if (etcd instanceof Etcd) etcd.forget();
        return;
      }
      if (!('settings' in received)) {
        void answer(etcd, received).then((reply) => packets.send(reply));
        return;
      }
      const text = JSON.stringify(received.settings);
      // Of another program of the daemon. Calls in progress go on with those before.
      if (text !== present) etcd = connect(received);
      present = text;
    },
    () => process.exit(0),
  );
}

/** Settings that cannot be used are the answer to every request. */
function connect({ settings }: SettingsMessage): Etcd | EtcdError {
  try {
    return new Etcd(new Gateway(settings));
  } catch (error) {
    return asEtcdError(error);
  }
}

async function answer(etcd: Etcd | EtcdError, { id, name, args, limit }: RequestMessage): Promise<AnswerMessage> {
  try {
    if (etcd instanceof EtcdError) throw etcd;
    const reply = { id, result: await etcd.run(name, args, limit) };
    const length = Buffer.byteLength(JSON.stringify(reply));
    if (length > MAX_MESSAGE) throw new EtcdError(Failure.REFUSED, `the answer takes ${length} bytes`);
    return reply;
  } catch (error) {
    const { failure, message } = asEtcdError(error);
    return { id, failure, text: message.slice(0, 4096) };
  }
}

function asEtcdError(error: unknown): EtcdError {
  if (error instanceof EtcdError) return error;
  return new EtcdError(Failure.REFUSED, error instanceof Error ? error.message : String(error));
}

start();
