#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""new_broker.py - a broker is killed and another one started, which numbers the processes in another order

What was connected goes on, new connections move to the ring, and nobody is taken for the process that had its number before:
everybody sleeps in poll(), so a bell that is rung for the wrong one is an answer that does not come."""

import os
import re
import signal
import socket
import struct
import subprocess
import time

from syslib import PLAIN, SRC, check, free_port, main

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
            if len(sel.get_map()) == 1:
                sys.exit()
'''
CLIENT = r'''
import select, socket, sys
all = []
def exchange(s, data):
    s.sendall(data)
    got = b""
    p = select.poll()
    p.register(s, select.POLLIN)
    while len(got) < len(data):
        assert p.poll(5000), "no answer"
        got += s.recv(65536)
    assert got == data, "other bytes came back"
for line in sys.stdin:
    if line == "connect\n":
        all.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    for s in all:
        for i in range(100):
            exchange(s, b"%d %s" % (i, sys.argv[2].encode()))
    print("done", flush=True)
'''


def number(rig, wanted=None):
    """A process id that the broker gives (HELLO and WELCOME of abi_broker.h); with @wanted all up to that one are used up."""
    with open(os.path.join(SRC, "include/ntbsock/abi_broker.h")) as f:
        abi = int(re.search(r"#define NTBS_BROKER_ABI (\d+)", f.read()).group(1))
    path = rig.path("run-host", "broker.sock")
    while True:
        bells = [os.eventfd(0), os.eventfd(0)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(path)
            socket.send_fds(s, [struct.pack("=HHIII16s", 1, 32, 0, abi, os.getpid(), b"new_broker")], bells)
            packet, fds, _, _ = socket.recv_fds(s, 512, 8)
        for fd in bells + fds:
            os.close(fd)
        got = struct.unpack_from("=I", packet, 8)[0]
        if wanted in (None, got):
            return got


class Client:
    def __init__(self, rig, port, name):
        self.name = name
        self.p = rig.start(["python3", "-c", CLIENT, port, name], label=name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def do(self, what):
        self.p.p.stdin.write(what.encode() + b"\n")
        self.p.p.stdin.flush()
        check(self.p.p.stdout.readline() == b"done\n", f"{self.name}, {what}: {self.p.text()[-1000:]}")

    def end(self):
        self.p.p.stdin.close()
        self.p.wait(10)


def test(rig):
    first = None if PLAIN else number(rig)
    port = free_port()
    s = rig.start(["python3", "-c", SERVER, port], label="server").listening(port)
    clients = [Client(rig, port, f"client-{i}") for i in range(3)]
    for _ in range(3):
        for c in clients:
            c.do("connect")
            c.do("connect")
        if not PLAIN:
            rig.brokers["host"].stop(signal.SIGKILL)
            rig.broker()
            number(rig, first)
            time.sleep(1.2)     # it is looked for once a second
        clients.reverse()
        clients.append(clients.pop(0))
        for c in clients:
            c.do("go on")
    for c in clients:
        c.end()
    s.wait(10)
    rig.share("client-*", least=0.9, fallback=3)
    rig.share("server", least=0.9, fallback=3)


main(test)
