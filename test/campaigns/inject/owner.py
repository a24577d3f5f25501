"""A process that owns locks, told what to do by lines of input. It survives every signal that can be caught, and says so.

    connect PATH    to the daemon
    call HEX        sends a message and answers with the reply
    close           ends the connection

Lines of output: `ready`, `reply HEX`, `closed` (after `close`, or in place of a reply), and `signal NUMBER` at any time.
"""

import os
import signal
import socket
import sys

connection = None


def say(line):
    # In one call: a handler may run between any two.
    os.write(1, (line + '\n').encode())


def receive(size):
    data = b''
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def call(message):
    try:
        connection.sendall(message)
        head = receive(4)
        rest = None if head is None else receive(int.from_bytes(head, 'big') - 4)
    except OSError:
        rest = None
    say('closed' if rest is None else 'reply ' + rest.hex())


for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, lambda caught, frame: say(f'signal {int(caught)}'))
say('ready')
for line in sys.stdin:
    words = line.split()
    if words[0] == 'connect':
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(words[1])
        say('ready')
    elif words[0] == 'call':
        call(bytes.fromhex(words[1]))
    elif words[0] == 'close':
        connection.close()
        say('closed')
