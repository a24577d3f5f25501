"""Whether exec from a process with threads keeps its POSIX locks, as it does from Linux 5.11 on. Prints the number of threads, and `kept` or `dropped`.

exec-probe.py FILE
"""
import fcntl
import os
import sys
import threading
import time

fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
os.set_inheritable(fd, True)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
threads = len(os.listdir("/proc/self/task"))
script = f'echo {threads} threads; if grep -q "POSIX.* $$ " /proc/locks; then echo kept; else echo dropped; fi'
os.execv("/bin/sh", ["/bin/sh", "-c", script])
