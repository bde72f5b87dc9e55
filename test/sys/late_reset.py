#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""late_reset.py - a program of another host is killed, and the reset of its kernel is some time under way: the error is told once"""

import subprocess
import time

from hosts import Hosts
from syslib import check, free_port, main, need

JOINTS = {"cable": "--cable={}", "bridge": "--port=emu:{}"}
RATE = "20kbit"    # the FIN (66 bytes) goes at once, the reset behind it waits: 8 ms, of which a burst of 100 bytes takes care

SERVER = r'''
import socket, sys, time
c = socket.create_server((sys.argv[1], int(sys.argv[2]))).accept()[0]
for i in range(200):
    c.sendall(c.recv(1))
time.sleep(60)
'''
CLIENT = r'''
import select, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for i in range(200):
    s.sendall(b"x")
    s.recv(1)
s.sendall(b"unread")
p = select.poll()
p.register(s, select.POLLIN)
print("waits", flush=True)
try:
    print("recv:", s.recv(10))
except OSError as e:
    print("recv:", type(e).__name__)
time.sleep(0.3)
print("poll:", p.poll(0)[0][1] & select.POLLERR)
print("SO_ERROR:", s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
try:
    print("send:", s.send(b"x"))
except OSError as e:
    print("send:", type(e).__name__)
'''
WANTED = ["recv: ConnectionResetError", "poll: 0", "SO_ERROR: 0", "send: BrokenPipeError"]


def slow(host):
    dev = subprocess.run([*host, "ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    dev = [w.split("@")[0] for w in dev.split() if w.startswith("v") and "@" in w][0]
    r = subprocess.run([*host, "tc", "qdisc", "add", "dev", dev, "root", "tbf", "rate", RATE, "burst", "100", "limit", "100000"],
                       capture_output=True, text=True)
    check(r.returncode == 0, f"tc: {r.stderr}")


def test(rig):
    need("ip", "tc", root=True)
    for i, (joint, option) in enumerate(JOINTS.items()):
        with Hosts(rig, option.format(rig.path(f"joint{i}"))) as h:
            port = free_port()
            s = rig.start(["python3", "-c", SERVER, h.b, port], label="server", **h.on_b).listening(port)
            c = rig.start(["python3", "-c", CLIENT, h.b, port], label="client", **h.on_a)
            end = time.monotonic() + 20
            while "waits" not in c.text():
                check(time.monotonic() < end, f"{joint}: the exchange does not end")
                time.sleep(0.02)
            slow(h.inside[1])
            s.p.kill()
            s.p.wait()
            c.wait(20)
            got = c.text().splitlines()
            check(got[1:] == WANTED, f"{joint}: {got}")
            rig.share("client", what=joint)
            rig.forget_counters()


main(test)
