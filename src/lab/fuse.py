#!/usr/bin/env python3
"""A file system in memory over /dev/fuse, of one directory, whose answers can be chosen.

    fuse.py DIRECTORY CONTROL [posix-locks [grants] [hides] [offset-bits=N]] [data] [cached] [also=DIRECTORY]

Makes a file `disk`, mounts itself at the directory and prints `mounted`, then the name of each request (lookup, getattr, open, create,
setlk, getlk, flush, release, unlink, read, …), and `violation` where a mount removes the name of a file of which another one has the first byte
locked. Orders come as datagrams to the UNIX socket CONTROL, and each is answered:

    hang REQUEST            such requests stay unanswered from now on
    fail REQUEST ERRNO [N]  such requests fail with that errno from now on, or the next N; 0: they succeed again
    go                      all requests are answered from now on, also those that were not
    holder PID              getlk: that process has a write lock; 0: none has
    drop                    all locks are gone, as those of a host that was cut off
    leave N                 the next N getlk are answered, then all locks but the first mount's are gone
    locks                   prints `lock NAME MOUNT TYPE` for each lock of a first byte, mounts counted from 0; `read` or `write`

With `posix-locks` the kernel asks this server for locks, as GlusterFS's, and has no record of them. Else the kernel keeps them.
With `grants` this server grants every lock, and reports none.
With `hides` this server reports no lock to the mount that has it.
With `offset-bits` this server knows only the low bits of the offsets of locks; 0: a lock is the whole file's.
With `also` it is mounted a second time, as for another host.
With `cached` kernels keep names and attributes for an hour, whatever another mount does to them.
With `data` the file has 4096 bytes, which can be read and written, and are forgotten. Files that are made keep what is written.
Ends with its mount.
"""
import ctypes, errno, os, select, socket, struct, sys

LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR, OPEN, READ, WRITE = 1, 2, 3, 4, 9, 10, 11, 14, 15, 16
STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 17, 18, 25, 26, 27, 28, 29
FSYNC, GETLK, SETLK, SETLKW, CREATE, INTERRUPT = 20, 31, 32, 33, 35, 36
NAMES = {
    LOOKUP: 'lookup', GETATTR: 'getattr', SETATTR: 'setattr', MKDIR: 'mkdir', UNLINK: 'unlink', RMDIR: 'rmdir', OPEN: 'open',
    READ: 'read', WRITE: 'write', STATFS: 'statfs', RELEASE: 'release', FLUSH: 'flush', OPENDIR: 'opendir', READDIR: 'readdir',
    RELEASEDIR: 'releasedir', FSYNC: 'fsync', GETLK: 'getlk', SETLK: 'setlk', SETLKW: 'setlkw', CREATE: 'create',
}
UNANSWERED = (FORGET, INTERRUPT, 42)  # 42: batch-forget
POSIX_LOCKS = 1 << 1
MS_NOSUID_NODEV = 6
ROOT, DISK = 1, 77
# Inode numbers take all 64 bits, as those of GlusterFS.
INODES = 1 << 63
READ_LOCK, WRITE_LOCK, UNLOCK = 0, 1, 2

directory, control_path = sys.argv[1:3]
own_locks = 'posix-locks' in sys.argv[3:]
grants_all = 'grants' in sys.argv[3:]
hides_own = 'hides' in sys.argv[3:]
offset_mask = next(((1 << int(word[12:])) - 1 for word in sys.argv[3:] if word.startswith('offset-bits=')), (1 << 64) - 1)
valid = 3600 if 'cached' in sys.argv[3:] else 0
size = 4096 if 'data' in sys.argv[3:] else 0
libc = ctypes.CDLL(None, use_errno=True)


def mount(at):
    device = os.open('/dev/fuse', os.O_RDWR)
    options = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % device
    if libc.mount(b'virtlockd-test', at.encode(), b'fuse', MS_NOSUID_NODEV, options.encode()) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return device


devices = [mount(at) for at in [directory] + [word[5:] for word in sys.argv[3:] if word.startswith('also=')]]
control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
control.bind(control_path)

errors, hung, pending, holder = {}, set(), [], 0
# How many getlk until other mounts' locks are gone; 0 or less: they stay.
leaving = 0
# How many requests fail yet, where not all do.
failing = {}
names = {'disk': DISK}
modes = {ROOT: 0o40755, DISK: 0o100666}
last = [100, 0]
# By node: of each lock its owner (of which each mount has its own), the open file it was taken through, its type, and its range. No owner divides a range.
locks = {}
# By node, but of the disk.
contents = {}


def number(which):
    last[which] += 1
    return last[which]


def attributes(node):
    links = 2 if modes[node] & 0o40000 else 1 if node in names.values() else 0
    length = size if node == DISK else len(contents.get(node, b''))
    return struct.pack('<QQQQQQIIIIIIIIII', INODES + node, length, 0, 0, 0, 0, 0, 0, 0, modes[node], links, 0, 0, 0, 4096, 0)


def entry(node):
    """Valid for no time, if names are not cached, so the kernel asks every time."""
    return struct.pack('<QQQQII', node, 0, valid, valid, 0, 0) + attributes(node)


def entries():
    all_names = b''
    for at, (name, node) in enumerate(names.items(), 1):
        head = struct.pack('<QQII', INODES + node, at, len(name.encode()), modes[node] >> 12)
        all_names += (head + name.encode()).ljust((len(head) + len(name.encode()) + 7) // 8 * 8, b'\0')
    return all_names


def opened():
    return struct.pack('<QII', number(1), 0, 0)


def text(body):
    return body.split(b'\0', 1)[0].decode()


def meets(lock, start, end):
    return lock[3] <= end and start <= lock[4]


def rival(node, owner, start, end, kind, passes=lambda lock: False):
    if grants_all:
        return False
    others = [lock for lock in locks.get(node, []) if lock[0] != owner and not passes(lock)]
    return any(WRITE_LOCK in (kind, lock[2]) and meets(lock, start, end) for lock in others)


def first_byte(node):
    return [lock for lock in locks.get(node, []) if lock[3] == 0]


def lock_in(body):
    handle, owner, start, end, kind = struct.unpack_from('<QQQQI', body)
    return handle, owner, start & offset_mask, end & offset_mask, kind


def find_lock(device, node, body):
    """The process that has a lock in the way, -1 where it is not known, 0 for none."""
    global leaving
    _, owner, start, end, kind = lock_in(body)
    # That process has the first byte.
    if holder and start == 0:
        return holder
    is_own = lambda lock: hides_own and lock[0][0] == device
    found = -1 if rival(node, (device, owner), start, end, kind, is_own) else 0
    leaving -= 1
    if leaving == 0:
        for one, some in locks.items():
            locks[one] = [lock for lock in some if lock[0][0] == devices[0]]
    return found


def set_lock(device, node, body):
    handle, owner, start, end, kind = lock_in(body)
    owner = (device, owner)
    if kind != UNLOCK and rival(node, owner, start, end, kind):
        return errno.EAGAIN
    kept = [lock for lock in locks.get(node, []) if lock[0] != owner or not meets(lock, start, end)]
    locks[node] = kept if kind == UNLOCK else kept + [(owner, handle, kind, start, end)]
    return b''


def write(node, body):
    _, start, length = struct.unpack_from('<QQI', body)
    if node != DISK:
        before = contents.get(node, b'').ljust(start, b'\0')
        contents[node] = before[:start] + body[40:40 + length] + before[start + length:]
    return struct.pack('<II', length, 0)


def answer(device, opcode, node, body):
    """The reply, or a positive errno."""
    if opcode == INIT:
        flags = POSIX_LOCKS if own_locks else 0
        return struct.pack('<IIIIHHIIHHIIHHIIII', 7, 31, 0, flags, 0, 0, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    if opcode == LOOKUP:
        name = text(body)
        return entry(names[name]) if name in names else errno.ENOENT
    if opcode in (GETATTR, SETATTR):
        return struct.pack('<QII', valid, 0, 0) + attributes(node)
    if opcode in (CREATE, MKDIR):
        name = text(body[16 if opcode == CREATE else 8:])
        if name in names:
            return errno.EEXIST
        names[name] = number(0)
        modes[names[name]] = 0o100600 if opcode == CREATE else 0o40700
        return entry(names[name]) + (opened() if opcode == CREATE else b'')
    if opcode == UNLINK and any(owner[0] != device for owner, *_ in first_byte(names.get(text(body)))):
        print('violation', flush=True)
    if opcode in (UNLINK, RMDIR):
        return errno.ENOENT if names.pop(text(body), None) is None else b''
    if opcode == READDIR:
        return entries() if struct.unpack_from('<QQ', body)[1] == 0 else b''
    if opcode in (OPEN, OPENDIR):
        return opened()
    if opcode == STATFS:
        return bytes(80)
    if opcode == READ:
        _, start, length = struct.unpack_from('<QQI', body)
        return (bytes(size) if node == DISK else contents.get(node, b''))[start:start + length]
    if opcode == WRITE:
        return write(node, body)
    if opcode == GETLK:
        found = find_lock(device, node, body)
        return struct.pack('<QQIi', 0, 0, WRITE_LOCK if found else UNLOCK, max(found, 0))
    if opcode in (SETLK, SETLKW):
        return set_lock(device, node, body)
    if opcode in (RELEASE, FLUSH):
        handle = struct.unpack_from('<Q', body)[0]
        owner = (device, struct.unpack_from('<Q', body, 16)[0])
        locks[node] = [lock for lock in locks.get(node, []) if lock[0] != owner and (opcode == FLUSH or lock[1] != handle)]
        return b''
    return b'' if opcode in NAMES else errno.ENOSYS


def reply(device, opcode, unique, node, body):
    name = NAMES.get(opcode)
    result = errors.get(name) or answer(device, opcode, node, body)
    if name in failing:
        failing[name] -= 1
        if failing[name] == 0:
            del failing[name], errors[name]
    code, result = (-result, b'') if isinstance(result, int) else (0, result)
    try:
        os.write(device, struct.pack('<IiQ', 16 + len(result), code, unique) + result)
    except FileNotFoundError:
        pass  # the caller was interrupted


def obey():
    global holder, leaving
    order, sender = control.recvfrom(4096)
    word, *rest = order.decode().split()
    if word == 'hang':
        hung.add(rest[0])
    elif word == 'fail':
        errors[rest[0]] = int(rest[1])
        failing.pop(rest[0], None)
        if len(rest) > 2:
            failing[rest[0]] = int(rest[2])
        hung.discard(rest[0])
    elif word == 'holder':
        holder = int(rest[0])
    elif word == 'drop':
        locks.clear()
    elif word == 'leave':
        leaving = int(rest[0])
    elif word == 'locks':
        for name, node in names.items():
            for owner, _, kind, *_ in first_byte(node):
                print('lock', name, devices.index(owner[0]), 'write' if kind == WRITE_LOCK else 'read', flush=True)
    elif word == 'go':
        hung.clear()
        errors.clear()
        failing.clear()
        for request in pending:
            reply(*request)
        pending.clear()
    print('order', order.decode(), flush=True)


print('mounted', flush=True)
while devices:
    ready, _, _ = select.select(devices + [control], [], [])
    if control in ready:
        obey()
        continue
    device = ready[0]
    try:
        request = os.read(device, 1 << 17)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINTR):
            devices.remove(device)
        continue
    _, opcode, unique, node = struct.unpack_from('<IIQQ', request)
    name = NAMES.get(opcode, str(opcode))
    print(name, flush=True)
    if opcode in UNANSWERED:
        continue
    if name in hung:
        pending.append((device, opcode, unique, node, request[40:]))
    else:
        reply(device, opcode, unique, node, request[40:])
