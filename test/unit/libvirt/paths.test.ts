import assert from 'node:assert/strict';
import { daemonPaths } from '../../../src/libvirt/paths.ts';

const homeDirectory = '/home/u';

describe('paths', () => {
  it('are fixed for the privileged daemon, whatever the environment', () => {
    const paths = daemonPaths({ privileged: true, environment: { XDG_RUNTIME_DIR: '/x' }, homeDirectory });
    assert.equal(paths.socket, '/run/libvirt/virtlockd-sock');
    assert.equal(paths.adminSocket, '/run/libvirt/virtlockd-admin-sock');
    assert.equal(paths.pidFile, '/run/virtlockd.pid');
    assert.equal(paths.state, '/run/virtlockd-restart-exec.json');
    assert.equal(paths.config, '/etc/libvirt/virtlockd.conf');
    assert.equal(paths.log, '/var/log/libvirt/virtlockd.log');
    assert.equal(paths.runDirectoryMode, 0o755);
  });

  it('follow the XDG variables in a session', () => {
    const environment = { HOME: '/h', XDG_RUNTIME_DIR: '/r', XDG_CONFIG_HOME: '/c', XDG_CACHE_HOME: '/k' };
    const paths = daemonPaths({ privileged: false, environment, homeDirectory });
    assert.equal(paths.socket, '/r/libvirt/virtlockd-sock');
    assert.equal(paths.pidFile, '/r/libvirt/virtlockd.pid');
    assert.equal(paths.state, '/r/libvirt/virtlockd-restart-exec.json');
    assert.equal(paths.config, '/c/libvirt/virtlockd.conf');
    assert.equal(paths.log, '/k/libvirt/virtlockd.log');
    assert.equal(paths.runDirectoryMode, 0o700);
  });

  it('fall back to the cache below HOME, then below the home directory of the user', () => {
    const environment = { HOME: '/h', XDG_RUNTIME_DIR: '', XDG_CONFIG_HOME: '' };
    const paths = daemonPaths({ privileged: false, environment, homeDirectory });
    assert.equal(paths.socket, '/h/.cache/libvirt/virtlockd-sock');
    assert.equal(paths.config, '/h/.config/libvirt/virtlockd.conf');
    assert.equal(
      daemonPaths({ privileged: false, environment: {}, homeDirectory }).pidFile,
      '/home/u/.cache/libvirt/virtlockd.pid',
    );
  });

  it('move below another root as a whole', () => {
    for (const privileged of [true, false]) {
      const paths = daemonPaths({ privileged, environment: { XDG_RUNTIME_DIR: '/r' }, homeDirectory, root: '/t' });
      for (const path of Object.values(paths)) assert.match(String(path), /^(\/t\/|493$|448$)/);
    }
  });
});
