"""A service manager for tests without systemd. Starts a program, and starts it again when it ends, with the descriptors that the program
has stored. Prints events as lines of JSON. Reads commands as lines from standard input."""
import array
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import uuid

directory, limit, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
SO_PEEK_OFF = 42
KCMP = {"x86_64": 312, "aarch64": 272}[os.uname().machine]

notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
notify.bind(os.path.join(directory, "notify"))
notify.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(woken)

store = {}  # descriptors by name
identities = {}  # descriptors by device and inode
removed = 0
child = 0
# $INVOCATION_ID of the child.
invocation = ""
# When the last child ended, in microseconds of CLOCK_MONOTONIC; 0: none has.
ended = 0
restarts = True
listening = True
# How long the child's watchdog is, in microseconds, as text: what it has said last.
watchdog = ""
# Listening sockets that are passed to each child, by name, as systemd passes those of socket units.
units = {"virtlockd.socket": "virtlockd-sock", "virtlockd-admin.socket": "virtlockd-admin-sock"}
passed_sockets = {}


def say(event, **details):
    print(json.dumps({"event": event, **details}), flush=True)


def write_status():
    path = os.path.join(directory, "status")
    with open(path + ".new", "w") as file:
        file.write(f"FileDescriptorStoreMax={limit}\nNFileDescriptorStore={len(pairs())}\n")
        file.write(f"ActiveExitTimestampMonotonic={ended}\n")
    os.rename(path + ".new", path)


def write_journal(status):
    signal_number = os.WTERMSIG(status)
    fields = {
        "EXIT_CODE": "killed" if signal_number else "exited",
        "EXIT_STATUS": str(signal_number or os.WEXITSTATUS(status)),
    }
    with open(os.path.join(directory, f"journal-{invocation}"), "w") as file:
        file.write(json.dumps(fields) + "\n")


def open_sockets():
    """Closes the sockets of the socket units, if there are any, and listens anew."""
    for old in passed_sockets.values():
        old.close()
    run = os.path.join(directory, "root/run/libvirt")
    os.makedirs(run, exist_ok=True)
    for unit, file in units.items():
        path = os.path.join(run, file)
        if os.path.lexists(path):
            os.unlink(path)
        passed_sockets[unit] = socket.socket(socket.AF_UNIX)
        passed_sockets[unit].bind(path)
        passed_sockets[unit].listen(100)


def is_same(one, other):
    pid = os.getpid()
    return libc.syscall(KCMP, pid, pid, 0, one, other) == 0


def put(name, fds):
    for fd in fds:
        status = os.fstat(fd)
        rivals = identities.setdefault((status.st_dev, status.st_ino), [])
        if sum(map(len, store.values())) >= limit or any(is_same(fd, other) for other in rivals):
            os.close(fd)
        else:
            rivals.append(fd)
            store.setdefault(name, []).append(fd)


def take_out(name):
    global removed
    for fd in store.pop(name, []):
        removed += 1
        status = os.fstat(fd)
        identities[(status.st_dev, status.st_ino)].remove(fd)
        os.close(fd)


def queues():
    return [socket.socket(fileno=os.dup(fd)) for name, fd in pairs() if name.startswith("Q")]


def in_flight():
    """The words of all messages in the queues of files."""
    words = array.array("I")
    for queue in queues():
        with queue:
            queue.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
            try:
                while True:
                    words.frombytes(queue.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            except BlockingIOError:
                pass
    return words.tolist()


def pairs():
    return [(name, fd) for name, fds in store.items() for fd in fds]


def receive():
    global watchdog
    fds = array.array("i")
    data, control, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(4 * 16), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % 4])
    fields = dict(line.split("=", 1) for line in data.decode("latin1").splitlines() if "=" in line)
    if "FDSTORE" in fields:
        put(fields.get("FDNAME", "stored"), fds)
    else:
        for fd in fds:
            os.close(fd)
    if "FDSTOREREMOVE" in fields:
        take_out(fields["FDNAME"])
    watchdog = fields.get("WATCHDOG_USEC", watchdog)
    for name in ("READY", "STOPPING"):
        if name in fields:
            say(name.lower(), pid=child)


def start():
    global child, invocation
    if child:
        return
    invocation = uuid.uuid4().hex
    environment = {**os.environ, "NOTIFY_SOCKET": os.path.join(directory, "notify")}
    environment["INVOCATION_ID"] = invocation
    environment["PATH"] = directory + ":" + environment.get("PATH", "/usr/bin:/bin")
    passed = [(unit, one.fileno()) for unit, one in passed_sockets.items()] + pairs()
    child = os.fork()
    if child:
        say("started", pid=child, passed=len(passed))
        return
    signal.set_wakeup_fd(-1)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 16 + len(passed)) for _, fd in passed]
    for index, fd in enumerate(high):
        os.dup2(fd, 3 + index)
    os.closerange(3 + len(passed), 1 << 16)
    if passed:
        environment["LISTEN_PID"] = str(os.getpid())
        environment["LISTEN_FDS"] = str(len(passed))
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
    log = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3 + len(passed), 1 << 16)
    os.execve(program[0], program, environment)


def reap():
    global child, ended
    os.read(wake, 4096)
    while child:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        if pid != child:
            continue
        # Messages that it sent before it died count.
        while listening and select.select([notify], [], [], 0)[0]:
            receive()
        child = 0
        write_journal(status)
        ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        write_status()
        say("ended", pid=pid, status=status)
        if restarts:
            start()


def obey(line):
    global restarts, listening, limit
    command, *arguments = line.split()
    if command == "restart":
        restarts = arguments[0] == "yes"
        if restarts:
            start()
    elif command == "listen":
        listening = arguments[0] == "yes"
    elif command == "limit":
        limit = int(arguments[0])
    elif command == "sockets":
        # As a restart of the socket units does.
        open_sockets()
    elif command == "close":
        # The manager loses a descriptor.
        take_out(arguments[0])
    elif command == "damage":
        # Flips one bit of the memory behind each name with the prefix.
        prefix, offset, bit = arguments
        for name, fd in pairs():
            if name.startswith(prefix):
                byte = os.pread(fd, 1, int(offset))[0]
                os.pwrite(fd, bytes([byte ^ 1 << int(bit)]), int(offset))
    elif command == "pass":
        # Sends a file in flight that the program has not sent, under these words.
        path, *words = arguments
        for queue in queues():
            with queue, open(path) as file:
                socket.send_fds(queue, [array.array("I", map(int, words)).tobytes()], [file.fileno()])
    elif command == "list":
        say("list", names=[name for name, _ in pairs()], removed=removed, files=in_flight(), watchdog=watchdog)
    write_status()
    say("done", command=line)


write_status()
if "SOCKET_UNITS" in os.environ:
    del os.environ["SOCKET_UNITS"]
    open_sockets()
start()
buffer = b""
while True:
    watched = [0, wake] + ([notify] if listening else [])
    ready = select.select(watched, [], [])[0]
    if notify in ready:
        receive()
        while select.select([notify], [], [], 0)[0]:
            receive()
        write_status()
    if wake in ready:
        reap()
    if 0 in ready:
        data = os.read(0, 4096)
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            obey(line.decode())
if child:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
