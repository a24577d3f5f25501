"""A file system at DIRECTORY, by the kernel's FUSE protocol, all of whose files have the inode number 7: what a file server
shows that gives a number out again while the file that had it is still open. To the kernel they are different files.

    one-number.py DIRECTORY [unlinks | no-links]

With a word each file has a number of its own. With `unlinks` names are cached, as on NFSv4, and the first file that is opened is
unlinked by another host before the lock on it is asked for. With `no-links` no file has a link, whatever names it."""
import ctypes
import errno
import os
import struct
import sys

LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, OPEN, STATFS, RELEASE, FLUSH, INIT, CREATE = 1, 2, 3, 4, 10, 14, 17, 18, 25, 26, 35
BATCH_FORGET = 42
ROOT, NUMBER = 1, 7

directory = sys.argv[1]
unlinks, no_links = 'unlinks' in sys.argv, 'no-links' in sys.argv
valid = 3600 if unlinks else 0
device = os.open('/dev/fuse', os.O_RDWR)
options = 'fd=%d,rootmode=40000,user_id=0,group_id=0' % device
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b'one-number', directory.encode(), b'fuse', 0, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))

files = {}  # node number by name
nodes = ROOT
unlinked = None  # the node that another host has unlinked


def attributes(node):
    root = node == ROOT
    number = ROOT if root else NUMBER + node if unlinks or no_links else NUMBER
    links = 0 if node == unlinked or no_links and not root else 1
    return struct.pack('<QQQQQQIIIIIIIIII', number, 0, 0, 0, 0, 0, 0, 0, 0, 0o040755 if root else 0o100600, links, 0, 0, 0, 4096, 0)


def entry(node):
    return struct.pack('<QQQQII', node, 0, valid, valid, 0, 0) + attributes(node)


def unlink_elsewhere(node):
    global unlinked
    unlinked = node
    for name in [name for name in files if files[name] == node]:
        del files[name]


def answer(code, node, body):
    global nodes
    name = body.split(b'\0')[0]
    if code == INIT:
        return struct.pack('<IIIIHHIIHH', 7, 31, 0, 0, 8, 8, 65536, 1, 0, 0) + bytes(28)
    if code == LOOKUP:
        return entry(files[name]) if name in files else -2
    if code in (GETATTR, SETATTR):
        return struct.pack('<QII', valid, 0, 0) + attributes(node)
    if code == CREATE:
        name = body[16:].split(b'\0')[0]
        nodes += 1
        files[name] = nodes
        return entry(nodes) + bytes(16)
    if code == OPEN:
        if node == unlinked:
            return -errno.ESTALE  # the kernel looks its name up again
        if unlinks and unlinked is None:
            unlink_elsewhere(node)
        return bytes(16)
    if code == UNLINK:
        return b'' if files.pop(name, None) else -2
    if code == STATFS:
        return bytes(80)
    return b'' if code in (RELEASE, FLUSH) else -38


print('mounted', flush=True)
while True:
    try:
        request = os.read(device, 1 << 17)
    except OSError:
        break  # unmounted
    length, code, unique, node = struct.unpack_from('<IIQQ', request)
    if code in (FORGET, BATCH_FORGET):
        continue
    reply = answer(code, node, request[40:])
    error, reply = (reply, b'') if isinstance(reply, int) else (0, reply)
    os.write(device, struct.pack('<IiQ', 16 + len(reply), error, unique) + reply)
