#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 60
"""activation.py - socket activation as systemd does it: a listener that somebody else opened is descriptor 3, by LISTEN_FDS

By a small activator with a server that comes back to the same listener, and by systemd-socket-activate where it is installed, which
passes listeners, or each connection to a process of its own, as standard input and output if told to."""

import os
import shutil

from syslib import PLAIN, check, free_port, main

ACTIVATOR = r'''
import os, select, socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
for _ in range(int(sys.argv[2])):
    select.select([s], [], [])              # a client is there, and not accepted
    pid = os.fork()
    if not pid:
        os.dup2(s.fileno(), 3)
        os.set_inheritable(3, True)         # it may have been 3
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execvp(sys.argv[3], sys.argv[3:])
    assert os.waitpid(pid, 0)[1] == 0, "the server failed"
print("activated", sys.argv[2])
'''
# Serves so many connections that it accepts from descriptor 3, or the one that it got as descriptor 0, 1 or 3.
SERVER = r'''
import hashlib, os, socket, sys
def serve(c):
    md5 = hashlib.md5()
    while data := c.recv(65536):
        md5.update(data)
        c.sendall(data)
    c.sendall(md5.digest())
    c.close()
how, count = sys.argv[1], int(sys.argv[2])
if how != "inetd":
    assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid(), "not activated"
s = socket.socket(fileno=0 if how == "inetd" else 3)
if how == "listener":
    for _ in range(count):
        serve(s.accept()[0])
else:
    os.close(1)
    serve(s)
'''
CLIENT = r'''
import hashlib, random, socket, sys, threading
rnd = random.Random(1)
for i in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    f = s.makefile("rb", buffering=0)
    md5 = hashlib.md5()
    def take(n):
        got = b""
        while len(got) < n:
            more = s.recv(n - len(got))
            assert more, "early end"
            got += more
        return got
    for n in (1, 54, 117, 1000, 16385, 100000, 2000000):
        data = rnd.randbytes(n)
        t = threading.Thread(target=s.sendall, args=(data,))
        t.start()
        md5.update(data)
        assert take(n) == data, f"connection {i}: {n} bytes came back differently"
        t.join()
    s.shutdown(socket.SHUT_WR)
    assert take(16) == md5.digest() and not s.recv(1), f"connection {i}"
print("whole", sys.argv[2])
'''


def test(rig):
    def client(port, count):
        out = rig.run(["python3", "-c", CLIENT, port, count], label="client")
        check(f"whole {count}" in out, out)

    # the activator takes part, or does not; the server does
    for ours in (True, False):
        rig.forget_counters()
        port = free_port()
        server = ["python3", "-c", SERVER, "listener", "3"]
        if not ours and not PLAIN:
            server = [os.path.join(rig.bin, "ntbsock-ctl"), "run", "--quiet", "--", *server]
        extra = {} if ours else {k: v for k, v in rig.env("server").items() if k.startswith("NTBSOCK_")}
        a = rig.start(["python3", "-c", ACTIVATOR, port, "2", *server], label="activator" if ours else "server", ours=ours, extra=extra).listening(port)
        client(port, 6)
        a.wait(20)
        rig.share("client", what=f"a server that a program {'of ours' if ours else 'without us'} activates, client")
        rig.share("activator" if ours else "server", what="the server")
        rig.nothing_left("activation")

    if not shutil.which("systemd-socket-activate"):
        print("systemd-socket-activate is not installed")
        return
    for how, options, count in (("listener", [], 3), ("connection", ["--accept"], 3), ("inetd", ["--accept", "--inetd"], 3)):
        rig.forget_counters()
        port = free_port()
        a = rig.start(["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-E", "LD_PRELOAD", "-E", "NTBSOCK_RUN_DIR", "-E", "NTBSOCK_STATS",
                       *options, shutil.which("python3"), "-c", SERVER, how, str(count)], label="systemd").listening(port)
        client(port, count)
        if how == "listener":
            a.wait(20)      # it has become the server
            rig.share("client", what="a server that systemd-socket-activate activates, client")
        else:
            a.stop()
            # accepted by one program, served by another: an exec, so TCP
            rig.share("client", least=None, what=f"systemd-socket-activate {' '.join(options)}, client")
        rig.nothing_left("systemd-socket-activate")


main(test)
