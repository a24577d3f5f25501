#!/usr/bin/env python3
"""A file system with one file, `disk`, over /dev/fuse. Its answers can be chosen.

    fuse.py DIRECTORY [posix-locks]

Mounts itself at the directory and prints `mounted`, then the name of each request (getattr, setlk, getlk, …). A stat of one of
these names in the directory fails with ENOENT and gives an order:

    answer:REQUEST:ERRNO    such requests fail with that errno from now on; 0: they succeed again
    hang:REQUEST            such requests stay unanswered from now on
    holder:PID              getlk: that process has a write lock; 0: none has

With `posix-locks` the kernel asks this server for locks, as GlusterFS's, and has no record of them; the server grants each. Else the kernel
keeps them.
Ends with its mount.
"""
import ctypes, errno, os, struct, sys

LOOKUP, GETATTR, INIT, GETLK, STATFS, OPEN = 1, 3, 26, 31, 17, 14
NAMES = {
    1: 'lookup', 3: 'getattr', 14: 'open', 17: 'statfs', 18: 'release', 25: 'flush', 31: 'getlk', 32: 'setlk', 33: 'setlkw',
}
UNANSWERED = (2, 36, 42)  # forget, interrupt, batch-forget
POSIX_LOCKS = 1 << 1
MS_NOSUID_NODEV = 6
ROOT, DISK = 1, 77

directory = sys.argv[1]
own_locks = 'posix-locks' in sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
device = os.open('/dev/fuse', os.O_RDWR)
options = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % device
if libc.mount(b'virtlockd-test', directory.encode(), b'fuse', MS_NOSUID_NODEV, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
errors, hung, holder = {}, set(), 0


def attributes(node):
    mode, links = (0o40755, 2) if node == ROOT else (0o100666, 1)
    return struct.pack('<QQQQQQIIIIIIIIII', node, 0, 0, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


def obey(name):
    global holder
    word, *rest = name.split(':')
    if word == 'answer':
        errors[rest[0]] = int(rest[1])
        hung.discard(rest[0])
    elif word == 'hang':
        hung.add(rest[0])
    elif word == 'holder':
        holder = int(rest[0])


def answer(opcode, node, body):
    """The reply, or a positive errno. Attributes are valid for no time, so the kernel asks for them at every stat."""
    if opcode == INIT:
        flags = POSIX_LOCKS if own_locks else 0
        return struct.pack('<IIIIHHIIHHIIHHIIII', 7, 31, 0, flags, 0, 0, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    if opcode == LOOKUP:
        name = body.rstrip(b'\0').decode()
        if name == 'disk':
            return struct.pack('<QQQQII', DISK, 0, 0, 0, 0, 0) + attributes(DISK)
        obey(name)
        return errno.ENOENT
    if opcode == GETATTR:
        return struct.pack('<QII', 0, 0, 0) + attributes(node)
    if opcode == OPEN:
        return struct.pack('<QII', 1, 0, 0)
    if opcode == STATFS:
        return bytes(80)
    if opcode == GETLK:
        return struct.pack('<QQII', 0, 0, 1 if holder else 2, holder)
    return b'' if opcode in NAMES else errno.ENOSYS


print('mounted', flush=True)
while True:
    try:
        request = os.read(device, 1 << 17)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            continue
        break
    _, opcode, unique, node = struct.unpack_from('<IIQQ', request)
    name = NAMES.get(opcode, str(opcode))
    print(name, flush=True)
    if opcode in UNANSWERED or name in hung:
        continue
    reply = errors.get(name) or answer(opcode, node, request[40:])
    code, reply = (-reply, b'') if isinstance(reply, int) else (0, reply)
    try:
        os.write(device, struct.pack('<IiQ', 16 + len(reply), code, unique) + reply)
    except FileNotFoundError:
        pass  # the caller was interrupted
