import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import path from 'node:path';
import { openDescriptors, openedBy, socketsOf } from '../../../src/proc/descriptors.ts';
import { descriptorsOn } from '../../../src/proc/open-files.ts';
import { isGone } from '../../../src/proc/processes.ts';
import { listeningSockets, listensAt, parseUnixSockets } from '../../../src/proc/sockets.ts';
import { temporaryDirectory } from '../support/locks.ts';

describe('what a process has open', () => {
  it('is known by number, name and file', () => {
    const directory = temporaryDirectory();
    const file = path.join(directory.path, 'a file');
    const fd = openSync(file, 'a');
    try {
      const { dev, ino } = statSync(file, { bigint: true });
      assert.ok(openDescriptors('self').includes(fd));
      assert.equal(new Map(openedBy('self')).get(fd), file);
      assert.deepEqual(descriptorsOn('self', { device: Number(dev), inode: ino }), [fd]);
      assert.deepEqual(descriptorsOn('self', { device: Number(dev) + 1, inode: ino }), []);
    } finally {
      closeSync(fd);
      directory.remove();
    }
  });

  it('leaves out what was closed between listing and reading, as the listing itself is', () => {
    // The descriptor of the directory is closed by the time its entry is read.
    const names = new Map(openedBy('self'));
    assert.ok(openDescriptors('self').some((fd) => !names.has(fd)));
    assert.ok(![...names.values()].some((name) => name.endsWith('/fd')));
  });

  it('is known, but for a path too long for the kernel to report', () => {
    const directory = temporaryDirectory();
    const name = 'x'.repeat(255);
    let fd = openSync(directory.path, 'r');
    try {
      for (let depth = 0; depth < 17; depth++) {
        const below = `/proc/self/fd/${fd}/${name}`;
        mkdirSync(below);
        const next = openSync(below, 'r');
        closeSync(fd);
        fd = next;
      }
      assert.ok(openDescriptors('self').includes(fd));
      const names = new Map(openedBy('self'));
      assert.ok(names.has(0) && !names.has(fd));
    } finally {
      closeSync(fd);
      execFileSync('rm', ['-rf', directory.path]);
    }
  });

  it('cannot be read of a process that is gone', () => {
    assert.throws(() => openDescriptors(4_200_000), isGone);
  });
});

describe('UNIX sockets', () => {
  const table = `Num       RefCount Protocol Flags    Type St Inode Path
ffff8e1ac2d3b400: 00000002 00000000 00010000 0001 01 18323 /run/libvirt/virtlockd-sock
ffff8e1ac2d3b800: 00000003 00000000 00000000 0001 03 18324 /run/libvirt/virtlockd-sock
0000000000000000: 00000003 00000000 00000000 0001 03    77
0000000000000000: 00000002 00000000 00010000 0001 01    78 /run/with two  blanks
0000000000000000: 00000002 00000000 00010000 0005 01 79 @abstract
`;

  it('are those with a path, whatever is in it', () => {
    assert.deepEqual(
      parseUnixSockets(table).map(({ inode, path, isListening }) => [inode, path, isListening]),
      [
        ['18323', '/run/libvirt/virtlockd-sock', true],
        ['18324', '/run/libvirt/virtlockd-sock', false],
        ['78', '/run/with two  blanks', true],
        ['79', '@abstract', true],
      ],
    );
  });

  it('of a process are where it listens', async () => {
    const directory = temporaryDirectory();
    const file = path.join(directory.path, 'a socket');
    const server = createServer().listen(file);
    await once(server, 'listening');
    try {
      assert.ok(listensAt('self').includes(file));
      const row = listeningSockets('self').find((socket) => socket.path === file);
      assert.ok(row !== undefined && socketsOf('self').has(row.inode));
    } finally {
      server.close();
      directory.remove();
    }
  });
});
