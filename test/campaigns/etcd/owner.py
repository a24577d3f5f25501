"""A process that owns a lock now and then, and writes to a shared file while it believes that it holds: until it is killed.

    owner.py SOCKET LOCKSPACE RESOURCE FILE NUMBER LIFE SEED MODES

It registers as itself, acquires RESOURCE over and over, and appends a record every 2 ms from the grant on. After a while it stops writing
and releases. When its connection ends while it holds, it goes on writing for ever, as a guest does. LIFE counts the processes that had
NUMBER before, so that no two holds have the same number. MODES is `exclusive` or `mixed`.

A record is 32 bytes: CLOCK_MONOTONIC in ns, the hold, its sequence number, 1 for a shared hold. Lines of output: `granted HOLD`,
`released HOLD`, `unreleased CODE`, `refused CODE`, `alone HOLD`.
"""

import os
import random
import socket
import struct
import sys
import time

PERIOD = 0.002
# Seconds. Most are short, for there to be many releases; most of the time somebody holds for long.
HOLDS = (0.1, 0.1, 0.5, 0.5, 1, 1, 2, 2, 8, 30)
path, lockspace, resource, file, number, life, seed, modes = sys.argv[1:]
randomness = random.Random(f'{seed} {number} {life}')
records = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
serial = 0
holds = 0


def say(text):
    os.write(1, (text + '\n').encode())


def text(value):
    data = value.encode()
    return struct.pack('>I', len(data)) + data + bytes(-len(data) % 4)


def receive(connection, size):
    data = b''
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def call(connection, procedure, payload):
    """The error's code; 0: none."""
    global serial
    serial += 1
    connection.sendall(struct.pack('>7I', 28 + len(payload), 0x0EA7BEEF, 1, procedure, 0, serial, 0) + payload)
    (length,) = struct.unpack('>I', receive(connection, 4))
    body = receive(connection, length - 4)
    return 0 if body[20:24] == bytes(4) else struct.unpack('>i', body[24:28])[0]


def on_resource(flags):
    return text(lockspace) + text(resource) + struct.pack('>I', flags)


def write_until(end, hold, shared, sequence):
    while end is None or time.monotonic() < end:
        sequence += 1
        os.write(records, struct.pack('<QQQQ', time.monotonic_ns(), hold, sequence, shared))
        time.sleep(PERIOD)
    return sequence


def has_ended(connection):
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b''
    except BlockingIOError:
        return False
    except OSError:
        return True


def own(connection):
    global holds
    shared = modes == 'mixed' and randomness.random() < 0.5
    code = call(connection, 6, on_resource(3 if shared else 2))
    if code != 0:
        say(f'refused {code}')
        time.sleep(randomness.uniform(0.05, 0.2))
        return
    holds += 1
    hold = int(number) << 40 | int(life) << 20 | holds
    say(f'granted {hold}')
    sequence = write_until(time.monotonic() + randomness.choice(HOLDS), hold, shared, 0)
    if has_ended(connection):
        # It has not let go.
        say(f'alone {hold}')
        write_until(None, hold, shared, sequence)
    # From here on it writes no more, whatever the answer is: a release that could not be done in time goes on.
    code = call(connection, 7, on_resource(0))
    say(f'released {hold}' if code == 0 else f'unreleased {code}')
    time.sleep(randomness.uniform(0, 0.2))


while True:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        name = text(f'owner-{number}')
        process = struct.pack('>3I', os.getpid(), os.getpid(), 0)
        call(connection, 1, struct.pack('>16s', number.encode()) + name + process)
        # Again is an error, and no harm.
        call(connection, 8, text(lockspace))
        while True:
            own(connection)
    except OSError:
        time.sleep(0.1)
    finally:
        connection.close()
