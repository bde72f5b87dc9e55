#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""echo.py - see echolib.py: threads, events (selectors), processes (each with the listener), asyncio; the same over TLS

    echo.py server|client threads|events|processes|asyncio|tls|asyncio-tls PORT CONNECTIONS [CERT KEY]"""

import asyncio
import hashlib
import multiprocessing
import os
import random
import selectors
import socket
import ssl
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from echolib import SIZES, STREAM

HOST = "127.0.0.1"
side, how, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
MD5 = hashlib.md5


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side == "server" else ssl.PROTOCOL_TLS_CLIENT)
    if side == "server":
        c.load_cert_chain(sys.argv[5], sys.argv[6])
    else:
        c.load_verify_locations(sys.argv[5])
        c.check_hostname = False
    return c


TLS = context() if how.endswith("tls") else None


def take(s, n):
    buf = bytearray(n)
    view, got = memoryview(buf), 0
    while got < n:
        more = s.recv_into(view[got:])
        assert more, f"EOF after {got} of {n} bytes"
        got += more
    return bytes(buf)


def listener():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((HOST, port))
    s.listen(1000)
    return s


# ------------------------------------------------------- threads, processes, TLS: calls that block

def serve_one(s):
    if TLS:
        s = TLS.wrap_socket(s, server_side=True)
    md5 = MD5()
    while data := s.recv(65536):
        md5.update(data)
        s.sendall(data)
    if TLS:         # its end is one for both directions: nothing may follow
        s = s.unwrap()
    else:
        s.sendall(md5.digest())
    s.close()


def ask_one(i):
    rnd = random.Random(i)
    s = socket.create_connection((HOST, port))
    if TLS:
        s = TLS.wrap_socket(s)
    md5, back = MD5(), MD5()
    for n in SIZES:
        data = rnd.randbytes(n)
        s.sendall(data)
        md5.update(data)
        got = take(s, n)
        assert got == data, f"connection {i}: {n} bytes came back differently"
        back.update(got)
    data = rnd.randbytes(STREAM)
    md5.update(data)
    if TLS:         # an SSL object is for one thread at a time
        for at in range(0, STREAM, 65536):
            s.sendall(data[at:at + 65536])
            back.update(take(s, 65536))
    else:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        t = threading.Thread(target=send)
        t.start()
        back.update(take(s, STREAM))
        t.join()
    assert md5.digest() == back.digest(), f"connection {i}: the stream came back differently"
    if TLS:
        s.unwrap().close()
        return
    assert take(s, 16) == md5.digest(), f"connection {i}: the server got other bytes"
    assert not s.recv(1), f"connection {i}: more than was sent"
    s.close()


def threads(fn, args):
    errors = []

    def guarded(*a):
        try:
            fn(*a)
        except BaseException as e:
            errors.append(e)
            raise
    ts = [threading.Thread(target=guarded, args=a) for a in args]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    assert not errors, errors[0]


def serve_threads():
    lst = listener()
    threads(serve_one, ((lst.accept()[0],) for _ in range(count)))


def serve_processes():
    """Four workers share the listener, as it was forked to them; a counter says when it is over."""
    lst, left = listener(), multiprocessing.Value("i", count)

    def work():
        while True:
            with left:
                left.value -= 1
                if left.value < 0:
                    return
                s = lst.accept()[0]
            serve_one(s)
    run_processes(work, [()] * 4)


def run_processes(fn, args):
    ps = [multiprocessing.Process(target=fn, args=a) for a in args]
    for p in ps:
        p.start()
    for p in ps:
        p.join()
        assert not p.exitcode, f"a process ended with {p.exitcode}"


def ask_processes():
    def work(k):
        threads(ask_one, [(i,) for i in range(k, count, 4)])
    run_processes(work, [(k,) for k in range(4)])


# ------------------------------------------------------------------- events: nothing blocks

class Serving:
    def __init__(self, s):
        self.s, self.md5, self.out, self.end = s, MD5(), b"", False

    def wants(self):
        return (0 if self.end else selectors.EVENT_READ) | (selectors.EVENT_WRITE if self.out else 0)

    def ready(self, events):
        if events & selectors.EVENT_READ and not self.end and len(self.out) < 1 << 18:
            data = self.s.recv(65536)
            if data:
                self.md5.update(data)
                self.out += data
            else:
                self.end = True
                self.out += self.md5.digest()
        if self.out:
            try:
                self.out = self.out[self.s.send(self.out):]
            except BlockingIOError:
                pass
        return not (self.end and not self.out)


class Asking:
    def __init__(self, i):
        self.i, self.rnd, self.sizes = i, random.Random(i), [*SIZES, STREAM]
        self.md5, self.back, self.out, self.due, self.tail, self.shut = MD5(), MD5(), b"", 0, b"", False
        self.s = socket.socket()
        self.s.setblocking(False)
        self.s.connect_ex((HOST, port))
        self.next()

    def next(self):
        if self.sizes:
            self.due = self.sizes.pop(0)
            self.out = self.rnd.randbytes(self.due)
            self.md5.update(self.out)

    def wants(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out else 0)

    def ready(self, events):
        if self.out and events & selectors.EVENT_WRITE:
            try:
                self.out = self.out[self.s.send(self.out):]
            except BlockingIOError:
                pass
        if events & selectors.EVENT_READ:
            try:
                data = self.s.recv(65536)
            except BlockingIOError:
                return True
            if not data:
                assert self.shut and self.md5.digest() == self.back.digest() == self.tail, f"connection {self.i} differs or ends early"
                return False
            self.tail += data[self.due:]
            self.back.update(data[:self.due])
            self.due -= min(self.due, len(data))
        if not self.due and not self.out and self.sizes:
            self.next()
        elif not self.sizes and not self.out and not self.shut:
            self.shut = True
            self.s.shutdown(socket.SHUT_WR)     # with up to STREAM bytes still on their way back
        return True


def loop(sel, conns, accept=None):
    for c in conns:
        sel.register(c.s, c.wants(), c)
    left = count
    while left:
        for key, events in sel.select():
            if key.data is None:
                accept()
                continue
            c = key.data
            if c.ready(events):
                if c.wants() != key.events:
                    sel.modify(c.s, c.wants(), c)
            else:
                sel.unregister(c.s)
                c.s.close()
                left -= 1


def serve_events():
    lst, sel = listener(), selectors.DefaultSelector()
    lst.setblocking(False)

    def accept():
        try:
            c = Serving(lst.accept()[0])
        except BlockingIOError:
            return
        c.s.setblocking(False)
        sel.register(c.s, c.wants(), c)
    sel.register(lst, selectors.EVENT_READ, None)
    loop(sel, [], accept)


def ask_events():
    loop(selectors.DefaultSelector(), [Asking(i) for i in range(count)])


# ------------------------------------------------------------------------------------- asyncio

async def serve_asyncio():
    left, done = count, asyncio.Event()

    async def one(r, w):
        nonlocal left
        md5 = MD5()
        try:
            while data := await r.read(65536):
                md5.update(data)
                w.write(data)
                await w.drain()
            if not TLS:
                w.write(md5.digest())
                await w.drain()
            w.close()
            await w.wait_closed()
        finally:
            left -= 1
            if not left:
                done.set()
    server = await asyncio.start_server(one, HOST, port, backlog=1000, ssl=TLS)
    await done.wait()
    server.close()


async def ask_asyncio():
    async def one(i):
        rnd = random.Random(i)
        r, w = await asyncio.open_connection(HOST, port, ssl=TLS)
        md5 = MD5()
        for n in SIZES:
            data = rnd.randbytes(n)
            w.write(data)
            md5.update(data)
            assert await r.readexactly(n) == data, f"connection {i}: {n} bytes came back differently"
        data = rnd.randbytes(STREAM)
        w.write(data)
        md5.update(data)
        assert await r.readexactly(STREAM) == data, f"connection {i}: the stream came back differently"
        if not TLS:
            w.write_eof()
            assert await r.read() == md5.digest(), f"connection {i}: the server got other bytes"
        w.close()
        await w.wait_closed()
    await asyncio.gather(*(one(i) for i in range(count)))


if side == "server":
    {"threads": serve_threads, "tls": serve_threads, "processes": serve_processes, "events": serve_events,
     "asyncio": lambda: asyncio.run(serve_asyncio()), "asyncio-tls": lambda: asyncio.run(serve_asyncio())}[how]()
else:
    {"threads": lambda: threads(ask_one, [(i,) for i in range(count)]), "tls": lambda: threads(ask_one, [(i,) for i in range(count)]),
     "processes": ask_processes, "events": ask_events,
     "asyncio": lambda: asyncio.run(ask_asyncio()), "asyncio-tls": lambda: asyncio.run(ask_asyncio())}[how]()
    print(count, "whole")
