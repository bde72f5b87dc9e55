#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""python.py - CPython: threads, selectors, asyncio, forked workers, TLS, and multiprocessing's own connections"""

import subprocess

from echolib import PYTHON, pair
from syslib import check, main, need

# A manager's process serves proxies to other processes; a connection accepted here is passed to a worker, which answers.
MULTI = r'''
import hashlib, multiprocessing as mp, os, socket, sys
from multiprocessing import connection, reduction
from multiprocessing.managers import BaseManager
mp.set_start_method(sys.argv[1], force=True)

class Sums:
    def __init__(self):
        self.total = hashlib.md5()
    def add(self, data):
        self.total.update(data)
        return len(data)
    def digest(self):
        return self.total.digest()
class Manager(BaseManager):
    pass
Manager.register("Sums", Sums)

def client(address, key, k):
    with connection.Client(address, authkey=key) as c:
        for n in (1, 54, 117, 1000, 20000, 300000):
            data = bytes([k]) * n
            c.send_bytes(data)
            assert c.recv_bytes() == data[::-1], n
            c.send({"size": n, "data": data})
            assert c.recv() == [n, data], n
        c.send(None)

def worker(pipe):
    """Answers on a connection that another process has accepted."""
    s = pipe.recv()
    while data := s.recv(65536):
        s.sendall(data)
    s.close()

if __name__ == "__main__":
    with Manager(("127.0.0.1", 0)) as m:
        sums, want = m.Sums(), hashlib.md5()
        for n in (1, 54, 116, 117, 5000, 100000):
            data = os.urandom(n)
            want.update(data)
            assert sums.add(data) == n
        assert sums.digest() == want.digest(), "the manager got other bytes"
    lst = connection.Listener(("127.0.0.1", 0), authkey=b"key", backlog=20)
    clients = [mp.Process(target=client, args=(lst.address, b"key", k)) for k in range(4)]
    for p in clients:
        p.start()
    for _ in clients:
        with lst.accept() as c:
            while True:
                data = c.recv_bytes()
                if data[:1] == b"\x80" and data[-1:] == b".":    # a pickle: None at the end
                    break
                c.send_bytes(data[::-1])
                d = c.recv()
                c.send([d["size"], d["data"]])
    for p in clients:
        p.join()
        assert not p.exitcode, p.exitcode
    lst.close()

    lst = socket.create_server(("127.0.0.1", 0))
    mine = socket.create_connection(lst.getsockname())
    s, _ = lst.accept()
    for n in range(50):                     # on the ring before it is passed
        mine.sendall(b"x"); assert s.recv(1) == b"x"
        s.sendall(b"y"); assert mine.recv(1) == b"y"
    here, there = mp.Pipe()
    p = mp.Process(target=worker, args=(there,))
    p.start()
    data = os.urandom(100000)
    mine.sendall(data[:1000])               # unread when it is passed
    here.send(s)
    mine.sendall(data[1000:])
    s.close()
    got = b""
    while len(got) < len(data):
        more = mine.recv(65536)
        assert more, "EOF after %d bytes" % len(got)
        got += more
    assert got == data, "the worker sent other bytes back"
    mine.shutdown(socket.SHUT_WR)
    assert mine.recv(1) == b""
    p.join()
    assert not p.exitcode, p.exitcode
    print("multiprocessing works")
'''


def test(rig):
    need("openssl")
    cert, key = rig.path("cert"), rig.path("key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def python(server, client, connections=40):
        tls = [cert, key] if server.endswith("tls") else []
        pair(rig, f"Python {server} and {client}", [*PYTHON, "server", server], [*PYTHON, "client", client], connections, after=tls)

    python("threads", "threads")
    python("events", "threads")
    python("threads", "events")
    python("events", "events", 150)
    python("processes", "processes")
    python("asyncio", "asyncio", 100)
    python("tls", "tls")
    python("asyncio-tls", "asyncio-tls")
    python("tls", "asyncio-tls")
    rig.nothing_left("Python")
    for method in ("fork", "spawn", "forkserver"):
        with open(rig.path("multi.py"), "w") as f:
            f.write(MULTI)
        rig.forget_counters()
        out = rig.run(["python3", rig.path("multi.py"), method], label="multi")
        check("multiprocessing works" in out, out)
        rig.nothing_left(f"multiprocessing ({method})")     # its helpers end after it
        rig.share("multi", least=None, what=f"multiprocessing ({method}), a connection of which is passed on")


main(test)
