import assert from 'node:assert/strict';
import { coversFirstByte, isOnDevice, isOnFile, parseLocks, splitDevice } from '../../../src/proc/locks.ts';

const table = `1: POSIX  ADVISORY  WRITE 4557 08:01:1049347 0 0
1: -> POSIX  ADVISORY  WRITE 4558 08:01:1049347 0 0
2: OFDLCK ADVISORY  READ  -1 08:01:1049347 100 101
3: FLOCK  ADVISORY  WRITE 99 00:1b:12 0 EOF
4: POSIX  ADVISORY  READ 4559 fd:10a:18446744073709551615 1 EOF
`;

describe("the kernel's table of locks", () => {
  it('is read without those who wait', () => {
    const rows = parseLocks(table);
    assert.deepEqual(
      rows.map(({ kind, access, pid, start, end }) => [kind, access, pid, start, end]),
      [
        ['POSIX', 'WRITE', 4557, 0n, 0n],
        ['OFDLCK', 'READ', -1, 100n, 101n],
        ['FLOCK', 'WRITE', 99, 0n, null],
        ['POSIX', 'READ', 4559, 1n, null],
      ],
    );
    assert.deepEqual(rows.map(coversFirstByte), [true, false, true, false]);
    assert.equal(rows[3]?.inode, 18446744073709551615n);
  });

  it("is read off a descriptor's fdinfo", () => {
    const [row] = parseLocks('pos:\t0\nflags:\t02\nlock:\t1: POSIX  ADVISORY  WRITE 7 08:01:5 0 0\n');
    assert.deepEqual([row?.pid, row?.inode], [7, 5n]);
  });

  it('knows files by device and inode', () => {
    const [row] = parseLocks(table);
    assert.ok(row);
    assert.ok(isOnFile(row, { device: 0x801, inode: 1049347n }));
    assert.ok(!isOnFile(row, { device: 0x802, inode: 1049347n }));
    assert.ok(!isOnFile(row, { device: 0x801, inode: 1049348n }));
    // A minor number of more than 8 bits: the host has many mounts.
    assert.deepEqual(
      parseLocks(table).map((lock) => isOnDevice(lock, 0x10_fd_0a)),
      [false, false, false, true],
    );
    // As makedev(3) of glibc puts them together.
    assert.deepEqual(splitDevice(0x10_fd_0a), { major: 0xfd, minor: 0x10a });
  });
});
