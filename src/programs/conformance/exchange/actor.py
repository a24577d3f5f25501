"""A process beside the test. It owns connections (the daemon sees its pid), sends descriptors with them, and holds POSIX locks
like another host's daemon. Each line of input is an order in JSON, which one line answers."""

import array
import fcntl
import json
import os
import signal
import socket
import sys

connections = {}
held = {}


def drain(connection):
    """All bytes so far, and whether the other side has closed; does not wait."""
    connection.setblocking(False)
    data = b''
    try:
        while True:
            part = connection.recv(65536)
            if not part:
                return data, True
            data += part
    except BlockingIOError:
        return data, False
    except ConnectionResetError:
        return data, True
    finally:
        connection.setblocking(True)


def send(connection, data, descriptors):
    if descriptors == 0:
        connection.sendall(data)
        return
    opened = [os.open('/dev/null', os.O_RDONLY) for _ in range(descriptors)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', opened))]
    sent = connection.sendmsg([data], rights)
    connection.sendall(data[sent:])
    for descriptor in opened:
        os.close(descriptor)


def perform(order):
    does = order['do']
    name = order.get('name')
    if does == 'open':
        connections[name] = socket.socket(socket.AF_UNIX)
        connections[name].connect(order['path'])
    elif does == 'send':
        try:
            send(connections[name], bytes.fromhex(order['hex']), order['descriptors'])
        except (BrokenPipeError, ConnectionResetError):
            pass
    elif does == 'receive':
        data, closed = drain(connections[name])
        return {'hex': data.hex(), 'closed': closed}
    elif does == 'half':
        connections[name].shutdown(socket.SHUT_WR)
    elif does == 'close':
        connections[name].close()
    elif does == 'lock':
        held[order['path']] = open(order['path'], 'r+b')
        kind = fcntl.LOCK_EX if order['exclusive'] else fcntl.LOCK_SH
        fcntl.lockf(held[order['path']], kind | fcntl.LOCK_NB, order['length'], order['start'])
    elif does == 'unlock':
        held.pop(order['path']).close()
    elif does == 'ignore':
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return {}


for line in sys.stdin:
    print(json.dumps(perform(json.loads(line))), flush=True)
