#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""killed.py - the broker killed with -9 in the middle of a transfer; either program killed with -9"""

import os
import signal
import time

from syslib import PLAIN, check, free_port, main, need, random_file, sha

SINK = r'''
import socket, sys
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
c = l.accept()[0]
n = 0
try:
    while data := c.recv(65536):
        n += len(data)
    print("EOF after", n, flush=True)
except ConnectionResetError:
    print("reset after", n, flush=True)
'''
SOURCE = r'''
import socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
n = 0
try:
    while True:
        n += c.send(b"x" * 65536)
        if n >= 10000000 and n - 65536 < 10000000:
            print("under way", flush=True)
except (ConnectionResetError, BrokenPipeError) as e:
    print("ended by", type(e).__name__, flush=True)
'''


def said(p, what, seconds=20):
    end = time.monotonic() + seconds
    while what not in p.text():
        check(time.monotonic() < end, f"{p.label} did not say '{what}':\n{p.text()}")
        time.sleep(0.02)


def test(rig):
    need("socat")
    # the broker: a transfer goes on and is whole, a new connection is plain TCP, a new broker serves again
    port = free_port()
    h = random_file(rig.path("a"), 256 << 20)
    s = rig.start(["socat", "-u", f"TCP4-LISTEN:{port},bind=127.0.0.1", f"OPEN:{rig.path('b')},creat,trunc"], label="to-file").listening(port)
    c = rig.start(["socat", "-u", "-b", "4096", f"OPEN:{rig.path('a')}", f"TCP4:127.0.0.1:{port}"], label="from-file")
    end = time.monotonic() + 20
    while not os.path.exists(rig.path("b")) or os.path.getsize(rig.path("b")) < 8 << 20:
        check(time.monotonic() < end, "the transfer does not begin")
        time.sleep(0.005)
    if not PLAIN:
        rig.brokers["host"].p.kill()
        rig.brokers["host"].p.wait()
        check(c.p.poll() is None, "the transfer was over before the broker was killed: the file is too small")
    c.wait(60)
    s.wait(60)
    check(sha(rig.path("b")) == h, "broker killed: the file differs")
    # what it had sent before the other side had claimed is TCP's
    rig.share("from-file", least=0.97, what="transfer during which the broker was killed")
    if not PLAIN:
        # preloaded without "run", which would start another broker: both find nobody
        port = free_port()
        rig.forget_counters()
        alone = {"LD_PRELOAD": rig.lib(), "NTBSOCK_RUN_DIR": rig.path("run-host"), "NTBSOCK_STATS": rig.path("stats", "alone.%p")}
        s = rig.start(["socat", "-u", f"TCP4-LISTEN:{port},bind=127.0.0.1", f"OPEN:{rig.path('b')},creat,trunc"], label="alone-server",
                      ours=False, extra=alone).listening(port)
        rig.run(["socat", "-u", f"OPEN:{rig.path('a')}", f"TCP4:127.0.0.1:{port}"], label="alone-client", ours=False, extra=alone)
        s.wait(30)
        check(sha(rig.path("b")) == h, "without a broker: the file differs")
        c = rig.counters("alone")
        check(c["processes"] == 2 and c["ring"] == 0 and c["accelerated"] == 0, f"without a broker: {c}")
        print(f"without a broker: plain TCP, {c['reasons']}")
        rig.forget_counters()
        rig.broker("host")

    # the receiver, then the sender
    port = free_port()
    s = rig.start(["python3", "-c", SINK, port], label="sink").listening(port)
    c = rig.start(["python3", "-c", SOURCE, port], label="source")
    said(c, "under way")
    s.p.kill()
    said(c, "ended by")
    print("receiver killed:", c.text().split("\n")[1])
    c.wait(20)
    port = free_port()
    s = rig.start(["python3", "-c", SINK, port], label="sink").listening(port)
    c = rig.start(["python3", "-c", SOURCE, port], label="source")
    said(c, "under way")
    c.p.kill()
    said(s, "after")
    print("sender killed:", s.text().strip())
    check("EOF after" in s.text(), "the sender was killed with nothing unread: TCP says EOF, this said " + s.text())
    check(int(s.text().split()[-1]) >= 10000000, "bytes that had been sent were lost")
    s.wait(20)


main(test)
