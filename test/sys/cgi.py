#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 60
"""cgi.py - a server that starts a program for each connection keeps nothing of them, whoever lets go first

The child inherits the socket as its output, or has it close-on-exec; the server closes its own before the exec or after
it.  What the client gets is checked, then how many connections the server is said to have."""

import os
import time

from syslib import PLAIN, check, free_port, main

SERVER = r'''
import os, socket, sys, time
port, n, cloexec, late = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4] == "1"
l = socket.create_server(("127.0.0.1", port))
for i in range(n):
    s, _ = l.accept()
    line = b""
    while not line.endswith(b"\n"):
        line += s.recv(100)
        s.sendall(b"+")
    go_r, go_w = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go_w)
        if late:
            os.read(go_r, 1)        # until the server has closed its own
        if cloexec:
            os.write(s.fileno(), b"answer %d\n" % i)
        else:
            os.dup2(s.fileno(), 1)
        os.execve("/bin/echo", ["echo"] + (["answer", str(i)] if not cloexec else ["-n"]), {})
    if not late:
        os.waitpid(pid, 0)
    s.close()
    os.close(go_w)
    os.close(go_r)
    if late:
        os.waitpid(pid, 0)
print("served", flush=True)
sys.stdin.read()
'''

CLIENT = r'''
import socket, sys
port, n = int(sys.argv[1]), int(sys.argv[2])
for i in range(n):
    s = socket.create_connection(("127.0.0.1", port))
    for k in range(20):
        s.sendall(b"x")
        assert s.recv(1) == b"+"
    s.sendall(b"\n")
    got = b""
    while True:
        b = s.recv(100)
        if not b:
            break
        got += b
    assert got == b"+answer %d\n" % i, got
    s.close()
'''


def test(rig):
    n = 60
    for cloexec in (0, 1):
        for late in (0, 1):
            port = free_port()
            until, go = os.pipe()
            s = rig.start(["python3", "-c", SERVER, port, n, cloexec, late], label="server", stdin=until).listening(port)
            rig.run(["python3", "-c", CLIENT, port, n], label="client")
            end = time.monotonic() + 10
            while "served" not in s.text():
                check(time.monotonic() < end and s.p.poll() is None, "the server has not come to its end: " + s.text())
                time.sleep(0.01)
            if not PLAIN:
                left = rig.ctl("connections", "--pid", str(s.pid))["connections"]
                check(len(left) < 3, f"close-on-exec {cloexec}, server closes first {late}: the server keeps {len(left)} of {n}")
                ring = rig.counters("client")
                check(ring["ring"] > n, f"nothing went over the ring: {ring['ring']}")
            os.close(go)
            os.close(until)
            s.wait(10)
            rig.forget_counters()
            print(f"close-on-exec {cloexec}, server closes first {late}: {n} programs, nothing kept")
    rig.nothing_left()


main(test)
