/** Faults in locks, files and lockspaces. */
import { type Mutant, mutant } from './mutant.ts';

const files = 'src/lockspace/files.ts';
const lockspaces = 'src/lockspace/lockspaces.ts';
const registered = 'return register(new HeldFile(fd, device, inode, shared, blockDevice, kind));';
const lockType = 'shared ? LockType.READ : LockType.WRITE';

export const lockMutants: readonly Mutant[] = [
  mutant(
    'the lock reaches to the end of the file',
    files,
    registered,
    `posix.setlk(fd, ${lockType}, 0, 0); ${registered}`,
    ['lockspace/acquire-release-a-file', 'lockspace/acquire-autocreate-release-nothing'],
  ),
  mutant(
    'the lock covers byte 1',
    files,
    registered,
    `posix.setlk(fd, LockType.UNLOCK, 0, 1); posix.setlk(fd, ${lockType}, 1, 1); ${registered}`,
    ['lockspace/acquire-release-a-file', 'lockspace/another-process-has-locked-all-from-byte-1'],
  ),
  mutant(
    'a shared lock is taken exclusively',
    files,
    registered,
    `posix.setlk(fd, LockType.WRITE, 0, 1); ${registered}`,
    ['lockspace/acquire-shared-release-a-file'],
  ),
  mutant(
    'an exclusive lock is taken shared',
    files,
    registered,
    `posix.setlk(fd, LockType.READ, 0, 1); ${registered}`,
    ['lockspace/acquire-release-a-file'],
  ),
  mutant(
    'a released file stays locked',
    files,
    'file.references--;\n  if (file.references > 0) return;',
    'file.references--;\n  if (file.references > 0 || !unlink) return;',
    ['lockspace/acquire-release-a-file'],
  ),
  mutant('an autocreated file is left behind', files, 'if (unlink && file.locked', 'if (!unlink && file.locked', [
    'lockspace/acquire-autocreate-release-nothing',
  ]),
  mutant(
    'a file that was there is removed at the release',
    lockspaces,
    'const unlink = mode.autocreate;',
    'const unlink = mode !== null;',
    ['lockspace/acquire-release-a-file'],
  ),
  mutant(
    'a file is removed while others share it',
    files,
    '(!file.isReadLocked || setLock(file.lockKind, file.fd, LockType.WRITE) === 0)',
    'true',
    ['lockspace/a-shared-file-that-was-made-stays-while-another-process-reads-it'],
  ),
  mutant(
    'an autocreated file can be read by all',
    files,
    'if (fd >= 0) return admit(fd, lastStat(), shared);',
    `if (fd >= 0) process.getBuiltinModule('node:fs').fchmodSync(fd, 0o644);
    if (fd >= 0) return admit(fd, lastStat(), shared);`,
    ['lockspace/acquire-autocreate-release-nothing'],
  ),
  mutant(
    'a created file can be read by all',
    files,
    'if (created >= 0) return posix.close(created);',
    `if (created >= 0) process.getBuiltinModule('node:fs').fchmodSync(created, 0o644);
  if (created >= 0) return posix.close(created);`,
    ['lockspace/create-resource-delete-resource-nothing'],
  ),
  mutant(
    'lockspaces are made one directory deep only',
    files,
    'if (status >= 0 || status === -EEXIST) return status;',
    'return status;',
    ['lockspace/new-below-parents-that-are-missing', 'lockspace/create-lockspace-below-parents-that-are-missing'],
  ),
  mutant(
    'a missing file is made without AUTOCREATE',
    lockspaces,
    'lockFile(directory, name, mode.shared, mode.autocreate, chooser, remote !== null)',
    'lockFile(directory, name, mode.shared, true, chooser, remote !== null)',
    ['lockspace/acquire-release-nothing'],
  ),
  mutant(
    'a shared acquire joins an exclusive hold',
    lockspaces,
    'if (!present.mode.shared || !mode.shared ||',
    'if (!mode.shared ||',
    ['ownership/held-with-0-wanted-by-another-with-all-flags'],
  ),
  mutant(
    'an exclusive acquire joins a shared hold',
    lockspaces,
    'if (!present.mode.shared || !mode.shared ||',
    'if (!present.mode.shared ||',
    ['ownership/held-with-shared-wanted-by-another-with-all-flags'],
  ),
  mutant(
    'a held resource can be deleted',
    lockspaces,
    `this.assertFree(lockspace, name);
    const { held`,
    `posix.unlink(path);
    const { held`,
    ['lockspace/create-resource-and-delete-resource-of-one-that-is-held'],
  ),
  mutant(
    'deleting leaves the file',
    lockspaces,
    'const status = remote === null || place === null ? deleteFile(path) : remote.delete(place, path);',
    'const status = path === null || deleteFile === null ? -1 : 0;',
    ['lockspace/delete-resource-a-file'],
  ),
  mutant('deleting what is missing fails', files, 'return status === -ENOENT ? 0 : status;', 'return status;', [
    'lockspace/delete-resource-nothing',
  ]),
  mutant(
    'an owner releases what another holds',
    lockspaces,
    'return hold?.owner.pid === pid && isMet(hold);',
    'return hold !== undefined && isMet(hold);',
    ['lockspace/release-by-another-owner'],
  ),
  mutant(
    'one release gives up all holds of the owner',
    lockspaces,
    'this.dropped(resource, resource.removeHold(pid, place), pid);',
    'this.dropHolds(resource, ({ owner }) => owner.pid === pid);',
    ['ownership/an-owner-several-times-over-between-others'],
  ),
  mutant(
    'releasing what is not locked succeeds',
    lockspaces,
    'if (resource === undefined || resource.isEnding) {\n      throw',
    'if (resource === undefined || resource.isEnding) {\n      if (name !== null) return;\n      throw',
    ['lockspace/release-of-what-is-not-held'],
  ),
  mutant(
    'a lockspace is made of a file',
    lockspaces,
    'else if (type !== FileType.DIRECTORY) {',
    'else if (type === -FileType.DIRECTORY) {',
    ['lockspace/create-lockspace-a-file-in-the-way'],
  ),
];
