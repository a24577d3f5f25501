/** An admin client's request to end, received but not served by the previous program. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { EMPTY_SERVER } from '../../../src/restart/empty-state.ts';
import { missingDaemon } from '../../../src/lab/requirements.ts';
import type { Lab } from '../../../src/lab/root.ts';
import { checkout, openLab } from '../../../src/lab/trees.ts';
import { adminProgram, encode, u32 } from '../../../src/lab/wire.ts';
import { skipIf } from '../../support/skip.ts';

const SHUTDOWN = 20;
const LIMIT_MS = 5000;

/** Imitates a daemon that re-executes, with one admin client, and its state in the first argument. */
const PREDECESSOR = `import json, os, socket, sys
state, program = json.loads(sys.argv[1]), sys.argv[2]
os.makedirs('/run/libvirt', exist_ok=True)
def listen(name):
    s = socket.socket(socket.AF_UNIX)
    s.bind('/run/libvirt/' + name)
    s.listen(5)
    return s
def sock(s, client):
    os.set_inheritable(s.fileno(), True)
    return {'fd': s.fileno(), 'errfd': -1, 'pid': 0, 'isClient': client, 'unlinkUNIX': not client}
servers = {'virtlockd': listen('virtlockd-sock'), 'admin': listen('virtlockd-admin-sock')}
far = socket.socket(socket.AF_UNIX)
far.connect('/run/libvirt/virtlockd-admin-sock')
os.set_inheritable(far.fileno(), True)
near = servers['admin'].accept()[0]
for name, s in servers.items():
    services = [{'auth': 0, 'readonly': False, 'nrequests_client_max': 1, 'socks': [sock(s, False)]}]
    state['daemon']['servers'][name]['services'] = services
for client in state['daemon']['servers']['admin']['clients']:
    client['sock'] = sock(near, True)
state['magic'] = str(os.getpid())
with open('/run/virtlockd-restart-exec.json', 'w') as file:
    json.dump(state, file)
os.chmod('/run/virtlockd-restart-exec.json', 0o600)
os.execv(program, [program])
`;

describe('a request to end that the program before has left', function () {
  this.timeout(30_000);
  let lab: Lab;

  beforeEach(async function () {
    skipIf(this, missingDaemon('ours'));
    lab = await openLab();
  });
  afterEach(async () => {
    await (lab as Lab | undefined)?.close();
  });

  it('ends the daemon', async () => {
    const message = encode({ program: adminProgram, version: 1, serial: 1, procedure: SHUTDOWN, payload: u32(0) });
    const client = {
      id: 1,
      auth: 0,
      auth_pending: false,
      readonly: false,
      nrequests_max: 1,
      'x-received': message.toString('base64'),
      'x-skip': 0,
      'x-unsent': '',
      conn_time: 0,
    };
    const state = {
      daemon: { servers: { admin: { ...EMPTY_SERVER, clients: [client] }, virtlockd: EMPTY_SERVER } },
      defaultLockspace: { resources: [] },
      lockspaces: [],
    };
    const words = ['-c', PREDECESSOR, JSON.stringify(state), join(checkout, 'bin/virtlockd')];
    const daemon = lab.spawn('/usr/bin/python3', words);
    const finished = await Promise.race([daemon.exited, pause(LIMIT_MS)]);
    if (finished === undefined) {
      process.kill(daemon.pid, 'SIGTERM');
      await daemon.exited;
    }
    assert.equal(finished?.code, 0, daemon.output);
  });
});
