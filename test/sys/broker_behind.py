#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""broker_behind.py - a broker that does not get to its messages for a while: nobody waits for it, and no connection is given up for it

Between users each claim is a message to the broker; it is stopped until its queue is full, and many connections later goes on."""

import os
import signal

from syslib import PLAIN, check, free_port, main, need

N = 600
SERVER = r'''
import resource, selectors, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
l = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1000)
sel = selectors.DefaultSelector()
sel.register(l, selectors.EVENT_READ)
left = int(sys.argv[2])
while left:
    for key, _ in sel.select():
        s = key.fileobj
        if s is l:
            sel.register(l.accept()[0], selectors.EVENT_READ)
        elif data := s.recv(65536):
            s.sendall(data)
        else:
            sel.unregister(s)
            s.close()
            left -= 1
'''
CLIENT = r'''
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
port, n, broker = map(int, sys.argv[1:])
def exchange(s, data):
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        more = s.recv(65536)
        assert more, "early end"
        got += more
    assert got == data, "other bytes came back"
first = socket.create_connection(("127.0.0.1", port))
for i in range(200):
    exchange(first, b"%d" % i)
if broker:
    os.kill(broker, 19)
start = time.monotonic()
all = [first]
for i in range(n - 1):
    all.append(socket.create_connection(("127.0.0.1", port)))
    exchange(all[-1], b"one %d" % i)
took = time.monotonic() - start
if broker:
    os.kill(broker, 18)
for k in range(60):
    for i, s in enumerate(all):
        exchange(s, b"%d %d" % (i, k) * 200)
print("exchanged; %.2f ms a connection while the broker stood still" % (took * 1000 / n))
'''


def test(rig):
    need("setpriv", root=True)
    port = free_port()
    s = rig.start(["python3", "-c", SERVER, port, N], label="server", user="www-data").listening(port)
    broker = 0 if PLAIN else rig.brokers["host"].pid
    try:
        out = rig.run(["python3", "-c", CLIENT, port, N, broker], label="client", seconds=60)
    finally:
        if broker:
            os.kill(broker, signal.SIGCONT)
    check("exchanged" in out, out)
    print(out.strip())
    s.wait(20)
    rig.nothing_left("the two")
    # so many offers at once that some find no place on the board
    rig.share("client", least=0.8, fallback=N // 50)
    rig.share("server", least=0.8, fallback=N // 50)


main(test)
