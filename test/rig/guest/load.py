#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""load.py - connections that never stop and whose every byte is known, for soak.py

    load.py server ADDRESS PORT WRONG       serves; wrong bytes are noted in the file WRONG
    load.py client ADDRESS PORT             keeps three connections, and says on standard output what they meet

The three: "echo" has blocks sent back, "sink" sends only, "source" only receives.  Each connection has a number of its
own, and its bytes follow from that: what comes late from another one, or from a former life, is wrong.  The client says
"up NAME NUMBER", "NAME NUMBER did N" twice a second, and "end NAME NUMBER HOW BYTES": closed, eof, wrong, or the errno.
Then it connects again.  SIGUSR1 has it close all and connect again, SIGTERM close all and end.

Sockets have keep-alive and a limit for what is not acknowledged, as programs have that want to hear of a host without
power; without, TCP would not tell them either."""

import errno
import hashlib
import os
import signal
import socket
import sys
import threading
import time

BLOCK = 8192
PAUSE = 0.02    # after a block: emulated CPUs have other things to do, too
KINDS = ("echo", "sink", "source")
stopping = threading.Event()
out = threading.Lock()


def say(*words):
    with out:
        print(*words, flush=True)


def block(number, index):
    return hashlib.sha256(b"%d %d" % (number, index)).digest() * (BLOCK // 32)


class Wrong(Exception):
    pass


def tune(s):
    s.settimeout(None)
    for option, value in ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 5),
                          (socket.TCP_USER_TIMEOUT, 8000)):
        s.setsockopt(socket.IPPROTO_TCP, option, value)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def exact(s, size):
    """So many bytes; fewer, if the stream ends before."""
    got = bytearray()
    while len(got) < size:
        piece = s.recv(size - len(got))
        if not piece:
            break
        got += piece
    return bytes(got)


def receive(s, number, index):
    """One block, checked as far as it goes; False at the end of the stream."""
    got = exact(s, BLOCK)
    if got != block(number, index)[:len(got)]:
        raise Wrong(f"connection {number}, block {index}")
    return len(got) == BLOCK


# ------------------------------------------------------------------ server

def serve(s, wrong):
    try:
        tune(s)
        kind, number, index = exact(s, 1), int.from_bytes(exact(s, 8), "big"), 0
        while not stopping.is_set():
            if kind == b"e":
                got = exact(s, BLOCK)
                if got != block(number, index)[:len(got)]:
                    raise Wrong(f"echo {number}, block {index}")
                s.sendall(got)
                if len(got) < BLOCK:
                    break
            elif kind == b"s":
                if not receive(s, number, index):
                    break
            else:
                s.sendall(block(number, index))
                time.sleep(PAUSE)
            index += 1
    except Wrong as e:
        with open(wrong, "a") as f:
            f.write(f"{e}\n")
    except OSError:
        pass        # the client says what became of it
    s.close()


def server(address, port, wrong):
    with socket.create_server((address, port), backlog=16) as listener:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0], wrong), daemon=True).start()


# ------------------------------------------------------------------ client

class Connection:
    def __init__(self, kind, address, port):
        self.kind, self.address = kind, (address, port)
        self.number, self.done, self.renew = 0, 0, False

    def use(self, s):
        index = 0
        s.sendall(self.kind[:1].encode() if self.kind != "source" else b"r")
        s.sendall(self.number.to_bytes(8, "big"))
        while not (stopping.is_set() or self.renew):
            if self.kind != "source":
                s.sendall(block(self.number, index))
                time.sleep(PAUSE)
            if self.kind != "sink" and not receive(s, self.number, index):
                return "eof"
            index += 1
            self.done += BLOCK
        return "closed"

    def run(self):
        while not stopping.is_set():
            try:
                s = socket.create_connection(self.address, timeout=5)
            except OSError:
                time.sleep(0.1)
                continue
            self.number, self.done, self.renew = int.from_bytes(os.urandom(5), "big"), 0, False
            say("up", self.kind, self.number)
            try:
                tune(s)
                how = self.use(s)
            except Wrong as e:
                how = "wrong: " + str(e)
            except OSError as e:
                how = errno.errorcode.get(e.errno, str(e))
            say("end", self.kind, self.number, how, self.done)
            s.close()


def client(address, port):
    connections = [Connection(kind, address, port) for kind in KINDS]

    def renew(*_):
        for c in connections:
            c.renew = True

    signal.signal(signal.SIGUSR1, renew)
    threads = [threading.Thread(target=c.run) for c in connections]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        time.sleep(0.5)
        for c in connections:
            if c.done:
                say(c.kind, c.number, "did", c.done)


def main():
    role, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: stopping.set() if role == "client" else sys.exit(0))
    if role == "server":
        server(address, port, sys.argv[4])
    else:
        client(address, port)


main()
