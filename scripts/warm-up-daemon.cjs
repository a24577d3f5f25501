/**
 * Lets the daemon take over a state document and serve a client, in a scratch directory, so that V8 has compiled what a
 * re-execution needs when make-code-cache.cjs writes its cache. Returns the arguments to run the daemon with; it ends by itself.
 */
'use strict';
const { mkdirSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { createConnection } = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { EMPTY_SERVER } = require('../src/restart/document.ts');

/** A descriptor that is not open: what the document describes is refused, but all of it was read and looked at. */
const NOT_OPEN = 99_999;

function sock(isClient) {
  return { fd: NOT_OPEN, errfd: -1, pid: 0, isClient, unlinkUNIX: !isClient };
}

function server(privateData) {
  const client = {
    auth: 0,
    auth_pending: false,
    readonly: false,
    nrequests_max: 1,
    conn_time: 1,
    sock: sock(true),
    privateData,
  };
  return {
    ...EMPTY_SERVER,
    next_client_id: 3,
    services: [{ auth: 0, readonly: false, nrequests_client_max: 1, socks: [sock(false)] }],
    clients: [
      { id: 1, ...client },
      { id: 2, ...client },
    ],
  };
}

const NIL = '00000000-0000-0000-0000-000000000000';
const owner = { restricted: false, ownerPid: 0, ownerId: 1, ownerName: 'warm', ownerUUID: NIL };
const resource = (path) => ({
  name: path,
  path,
  fd: NOT_OPEN,
  lockHeld: true,
  flags: 2,
  owners: [],
  'x-holds': [],
  'x-inode': '0::0',
});

function message(procedure, ...payload) {
  const body = Buffer.concat(payload);
  const header = Buffer.alloc(28);
  [28 + body.length, 0x0ea7beef, 1, procedure, 0, 1, 0].forEach((word, index) => header.writeUInt32BE(word, index * 4));
  return Buffer.concat([header, body]);
}

function words(...values) {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  return bytes;
}

function text(value) {
  return Buffer.concat([words(value.length), Buffer.from(value), Buffer.alloc(-value.length & 3)]);
}

module.exports = function warmUp() {
  const root = mkdtempSync(path.join(os.tmpdir(), 'virtlockd-'));
  const run = path.join(root, 'run');
  mkdirSync(path.join(run, 'libvirt'), { recursive: true });
  // The session daemon's paths are made the privileged one's, as far as they differ.
  Object.assign(process.env, { XDG_RUNTIME_DIR: '/run', XDG_CONFIG_HOME: '/etc', XDG_CACHE_HOME: '/run' });
  const config = path.join(root, 'virtlockd.conf');
  writeFileSync(config, `log_outputs = "1:file:${path.join(root, 'log')}"\n`);
  const document = JSON.stringify({
    daemon: { servers: { admin: server({}), virtlockd: server(owner) } },
    defaultLockspace: { resources: [resource('/a')] },
    lockspaces: [{ directory: '/b', resources: [resource('/b/c')] }],
    magic: String(process.pid),
    'x-virtlockd': { restarts: 1, started: 1 },
  });
  const directory = process.geteuid() === 0 ? run : path.join(run, 'libvirt');
  writeFileSync(path.join(directory, 'virtlockd-restart-exec.json'), document, { mode: 0o700 });

  setImmediate(() => {
    const socket = createConnection(path.join(run, 'libvirt', 'virtlockd-sock'));
    const name = text(path.join(root, 'lock'));
    socket.write(
      Buffer.concat([
        message(1, Buffer.alloc(16), text('warm'), words(1, 0, 0)),
        message(6, text(''), name, words(2)),
        message(6, text(''), name, words(2)),
        message(7, text(''), name, words(0)),
      ]),
    );
    socket.on('data', () => socket.end());
    socket.on('error', () => undefined);
  });
  process.on('exit', () => rmSync(root, { recursive: true, force: true }));
  return ['virtlockd', '--root', root, '--config', config, '--timeout', '1'];
};
