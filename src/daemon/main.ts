/** Provisional: the daemon without its shell. */
import path from 'node:path';
import { Daemon } from './daemon.ts';
import { listenAt } from './sockets.ts';
import { mkdirSync } from 'node:fs';

if (process.argv[3] === '--version') {
  console.log('x');
  process.exit(0);
}
const root = process.env.VIRTLOCKD_DEV_ROOT ?? '/';
const directory = path.join(root, 'run/libvirt');
mkdirSync(directory, { recursive: true });
const daemon = new Daemon({
  version: 9_000_000,
  maxClients: 1024,
  adminMaxClients: 5000,
  timeout: 0,
  onTimeout: () => process.exit(0),
});
daemon.lockServer.addListener(listenAt(path.join(directory, 'virtlockd-sock')));
daemon.adminServer.addListener(listenAt(path.join(directory, 'virtlockd-admin-sock')));
daemon.start();
for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) {
  process.on(signal, () => {
    void daemon.shutdown().then(() => process.exit(0));
  });
}
process.on('SIGUSR1', () => undefined);
