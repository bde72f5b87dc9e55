#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""killed_children.py - a server whose children are killed with -9 goes on as before: what they held is given back"""

import subprocess
import time

from syslib import PLAIN, check, free_port, main, need

# Each connection to a child, which is killed with it open.  "first": the parent has answered once by then.
SERVER = r'''
import os, signal, socket, sys, time
who, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
l = socket.create_server(("127.0.0.1", port), backlog=64)
def mapped():
    with open("/proc/self/maps") as f:
        return sum("ntbsock-channel" in x for x in f)
for i in range(2 * n):
    if i == n:
        time.sleep(1.1)     # what is given back is looked for once a second, before a fork
        before = mapped()
    c = l.accept()[0]
    if who == "first":
        for _ in range(20):
            c.sendall(c.recv(100))
    pid = os.fork()
    if not pid:
        l.close()
        while d := c.recv(100):
            c.sendall(d)
            if d == b"kill me":
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    c.close()
    os.waitpid(pid, 0)
time.sleep(1.1)
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
print("channels", before, mapped(), flush=True)
sys.stdin.read()
'''

CLIENT = r'''
import socket, sys
who, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(2 * n):
    s = socket.create_connection(("127.0.0.1", port))
    for _ in range(40):
        s.sendall(b"x" * 10)
        assert len(s.recv(100)) == 10
    s.sendall(b"kill me")
    got = b""
    try:
        while d := s.recv(100):
            got += d
    except ConnectionResetError:
        pass
    assert got in (b"", b"kill me"), got
    s.close()
print("done", 2 * n)
'''


def test(rig):
    need()
    for who in "child", "first":
        port, n = free_port(), 100
        rig.forget_counters()
        s = rig.start(["python3", "-c", SERVER, who, port, n], label="server", stdin=subprocess.PIPE).listening(port)
        out = rig.run(["python3", "-c", CLIENT, who, port, n], label="client")
        check("done" in out, out)
        end = time.monotonic() + 20
        while "channels" not in s.text():
            check(time.monotonic() < end, f"the server does not come to its end:\n{s.text()}")
            time.sleep(0.02)
        if not PLAIN:
            held = rig.ctl("connections", "-p", str(s.p.pid))["connections"]
            c = rig.counters("client")
            print(f"{who}: {c['accelerated']} of {2 * n} accelerated; {s.text().strip()}; {len(held)} entries in use")
            check(c["accelerated"] > n, f"{who}: {c['accelerated']} of {2 * n} connections were accelerated")
            check(len(held) <= 3, f"{who}: {len(held)} entries are in use behind {2 * n} killed children: {held[:3]}")
            half, channels = (int(x) for x in s.text().split("channels")[1].split()[:2])
            # one more or less: how many children end in a second; without giving back it would be two for each hundred
            check(channels <= half + 1, f"{who}: {half} channels are mapped by the server behind {n} children, {channels} behind {2 * n}")
        s.p.stdin.close()
        s.wait(20)


main(test)
