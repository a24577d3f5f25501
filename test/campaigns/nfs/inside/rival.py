"""Asks the kernel for locks without pause, as a guest of another host would, and prints a line of JSON for each span in which one was free.

rival.py MODE FILE...   take: locks, and unlocks at once; look: only asks who has it (F_GETLK), so that it keeps out
nobody, and takes what seems to be free: an NFSv3 server does not report shared locks
"""
import fcntl
import json
import os
import signal
import struct
import sys
import time

FLOCK = "hhqqi4x"
mode, files = sys.argv[1], sys.argv[2:]
ends = False


def end(*_):
    global ends
    ends = True


def is_free(fd):
    if mode == "look":
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
        if struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK:
            return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except OSError:
        return False
    fcntl.lockf(fd, fcntl.LOCK_UN, 1, 0)
    return True


def say(**line):
    print(json.dumps(line), flush=True)


signal.signal(signal.SIGTERM, end)
descriptors = [os.open(file, os.O_RDWR) for file in files]
since = {}
asked = 0
while not ends or asked < len(files):
    for file, fd in zip(files, descriptors):
        before = time.monotonic()
        free = is_free(fd)
        now = time.monotonic()
        asked += 1
        if free:
            since.setdefault(file, before)
        elif file in since:
            say(file=file, ms=(now - since.pop(file)) * 1000)
    if asked == len(files):
        say(asked=asked)
for file, start in since.items():
    say(file=file, ms=(time.monotonic() - start) * 1000)
say(asked=asked)
