#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""idle.py - 1,000 idle accelerated connections: no CPU over 10 s, and at most 64 KiB each, both ends and the broker together"""

import os
import time

from syslib import PLAIN, check, free_port, main

SERVER = r'''
import selectors, socket, sys
sel, lst = selectors.DefaultSelector(), socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=2000)
sel.register(lst, selectors.EVENT_READ)
while True:
    for key, _ in sel.select():
        if key.fileobj is lst:
            sel.register(lst.accept()[0], selectors.EVENT_READ)
        else:
            data = key.fileobj.recv(65536)
            if data:
                key.fileobj.sendall(data)
            else:
                sel.unregister(key.fileobj)
                key.fileobj.close()
'''
CLIENT = r'''
import select, socket, sys
N = int(sys.argv[2])
conns = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(N)]
p = select.epoll()
for rounds in range(5 if N else 0):
    for i, c in enumerate(conns):
        c.sendall(b"%07d." % i * 10)
    for i, c in enumerate(conns):
        assert c.recv(80, socket.MSG_WAITALL) == b"%07d." % i * 10
for c in conns:
    p.register(c, select.EPOLLIN)
print("idle", flush=True)
while True:
    p.poll()
'''
CONNS = 1000


def cpu(pid):
    """Seconds of CPU, all threads, from the scheduler's own nanoseconds."""
    total = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def memory(pids):
    """PSS of the processes: shared pages count once, divided among those that map them."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            total += sum(int(x.split()[1]) for x in f if x.startswith("Pss:")) * 1024
    return total


def test(rig):
    def measure(n):
        port = free_port()
        s = rig.start(["python3", "-c", SERVER, port], label="server").listening(port)
        c = rig.start(["python3", "-c", CLIENT, port, n], label="client")
        end = time.monotonic() + 30
        while "idle" not in c.text():
            check(c.p.poll() is None and time.monotonic() < end, "the client did not connect:\n" + c.text())
            time.sleep(0.05)
        time.sleep(1)       # what follows the last exchange is not idling
        pids = [s.pid, c.pid] + [b.pid for b in rig.brokers.values()]
        if n:
            before = [cpu(p) for p in pids]
            time.sleep(10)
            used = [a - b for a, b in zip([cpu(p) for p in pids], before)]
            print(f"CPU over 10 s: server {used[0] * 1e3:.2f} ms, client {used[1] * 1e3:.2f} ms" +
                  (f", broker {used[2] * 1e3:.2f} ms" if len(used) > 2 else ""))
            check(sum(used) < 0.01, f"1,000 idle connections use {sum(used) * 1e3:.1f} ms of CPU in 10 s")
            if not PLAIN:
                on = sum(x["on_ring"] for x in rig.ctl("connections")["connections"])
                check(on >= 2 * CONNS * 0.99, f"ntbsock-ctl connections shows {on} of {2 * CONNS} ends accelerated")
        m = memory(pids)
        c.p.kill()
        s.p.kill()
        c.p.wait()
        s.p.wait()
        return m

    none = measure(0)
    many = measure(CONNS)
    each = (many - none) / CONNS
    print(f"memory: {none / 1e6:.1f} MB without, {many / 1e6:.1f} MB with {CONNS} connections: {each / 1024:.1f} KiB each")
    check(each <= 64 * 1024, f"{each / 1024:.1f} KiB for an idle connection, both ends together; 64 are allowed")


main(test)
