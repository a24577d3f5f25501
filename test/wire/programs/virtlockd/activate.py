#!/usr/bin/env python3
"""Starts a daemon as systemd does: listening sockets at descriptors 3 and 4, by name, and a socket to be notified at.

    activate.py PROGRAM DIRECTORY

Reads commands, a line each: `call SOCKET` (one unknown procedure), `signal NAME`, `notified`, `wait`;
answers each with a line.
"""
import os, signal, socket, struct, subprocess, sys

program, directory = sys.argv[1:]
run = directory + '/run/libvirt'
os.makedirs(run)
names = {'admin': run + '/virtlockd-admin-sock', 'lock': run + '/virtlockd-sock'}
listening = []
for path in names.values():
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    one.listen(5)
    listening.append(one)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind('\0virtlockd-test-%d' % os.getpid())
notify.settimeout(10)


def pass_sockets():
    for index, one in enumerate(listening):
        os.dup2(one.fileno(), 100 + index)
    for index in range(len(listening)):
        os.dup2(100 + index, 3 + index)
        os.close(100 + index)


environment = dict(
    os.environ,
    LISTEN_FDS='2',
    LISTEN_FDNAMES='virtlockd-admin.socket:virtlockd.socket',
    NOTIFY_SOCKET='@virtlockd-test-%d' % os.getpid(),
)
shell = 'export LISTEN_PID=$$; exec "$0" --root "$1"'
daemon = subprocess.Popen(
    ['sh', '-c', shell, program, directory],
    env=environment, preexec_fn=pass_sockets, close_fds=False, stdin=subprocess.DEVNULL,
)
for line in sys.stdin:
    command, *words = line.split()
    if command == 'notified':
        # Descriptors are stored until the daemon knows that there is no store.
        answer = 'FDSTORE'
        while answer.startswith('FDSTORE'):
            answer = notify.recv(100).decode().strip()
    elif command == 'call':
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(10)
        peer.connect(names[words[0]])
        number = {'lock': 0xEA7BEEF, 'admin': 0x06900690}[words[0]]
        peer.sendall(struct.pack('>IIIiiIi', 28, number, 1, 99, 0, 1, 0))
        answer = 'unknown procedure: 99' if b'unknown procedure: 99' in peer.recv(1000) else 'something else'
        peer.close()
    elif command == 'signal':
        os.kill(daemon.pid, getattr(signal, words[0]))
        answer = 'sent'
    else:
        answer = '%d %s' % (daemon.wait(10), ' '.join(sorted(os.listdir(run) + os.listdir(directory + '/run'))))
    print(answer, flush=True)
daemon.kill()
