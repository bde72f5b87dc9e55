#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""full_bell.py - a client of another user makes all bells that it has, the server's too, full and blocking: the server serves others"""

import ctypes
import fcntl
import os
import struct
import time

from syslib import PLAIN, check, free_port, main, need

PIDFD_GETFD = 438
SERVER = r'''
import selectors, socket, sys
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
sel = selectors.DefaultSelector()
sel.register(l, selectors.EVENT_READ)
while True:
    for key, _ in sel.select():
        s = key.fileobj
        if s is l:
            sel.register(l.accept()[0], selectors.EVENT_READ)
        elif data := s.recv(65536):
            s.sendall(data)
        else:
            sel.unregister(s)
            s.close()
'''
CLIENT = r'''
import select, socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
p = select.poll()
p.register(s, select.POLLIN)
def exchange(n):
    for i in range(n):
        s.sendall(b"%d" % i)
        assert p.poll(5000), "no answer"
        s.recv(100)
        time.sleep(0.0005)      # who answers at once rings nobody
exchange(100)
if sys.argv[2] == "bad":
    print("ready", flush=True)
    while True:
        s.sendall(b"again")
        p.poll(20)
        while p.poll(0):
            s.recv(100)
exchange(500)
print("served")
'''


def fill_bells(pid):
    """From outside: the library hides them from its own program."""
    pidfd, bells = os.pidfd_open(pid), 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:[eventfd]":
            fd = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(name), 0)
            check(fd >= 0, "pidfd_getfd")
            for _ in range(1000):       # somebody may ring between the two
                try:
                    os.read(fd, 8)
                except BlockingIOError:
                    pass
                try:
                    os.write(fd, struct.pack("=Q", 2 ** 64 - 2))
                    break
                except BlockingIOError:
                    pass
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            os.close(fd)
            bells += 1
    os.close(pidfd)
    return bells


def test(rig):
    need("setpriv", root=True)
    port = free_port()
    rig.start(["python3", "-c", SERVER, port], label="server").listening(port)
    bad = rig.start(["python3", "-c", CLIENT, port, "bad"], label="bad", user="www-data")
    end = time.monotonic() + 10
    while "ready" not in bad.text() and time.monotonic() < end:
        time.sleep(0.05)
    check(PLAIN or fill_bells(bad.pid), "no bells")
    time.sleep(0.3)
    print(rig.run(["python3", "-c", CLIENT, port, "good"], label="good", seconds=20).strip())
    rig.share("good", least=0.9)


main(test)
