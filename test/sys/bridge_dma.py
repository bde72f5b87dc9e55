#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 180
"""bridge_dma.py - LONG messages by a copy engine of the broker, emulated: contents, wake-ups, ends, an engine that halts"""

import json
import signal
import subprocess
import time

from hosts import Hosts
from syslib import check, free_port, main, need

KIB = 1024

# Prints "ready" once the connection is on the ring; then the client sends what its arguments say, the server checks it.
END = r'''
import hashlib, json, os, random, signal, socket, struct, sys, time
role, addr, port, what, sizes = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5])
say = lambda *a: print(*a, flush=True)

def pattern(i, n):
    return random.Random(i).randbytes(n)

def exact(c, n):
    got = b""
    while len(got) < n:
        d = c.recv(n - len(got))
        if not d:
            raise EOFError
        got += d
    return got

def warm(c, balls=300, pause=0.3):
    for i in range(2):
        for i in range(balls):
            if role == "client":
                c.sendall(b"x")
                exact(c, 1)
            else:
                c.sendall(exact(c, 1))
        time.sleep(pause)
    say("ready")

def server():
    s = socket.create_server((addr, port))
    if what == "resets":
        for turn in range(24):
            c = s.accept()[0]
            warm(c, *(() if not turn else (20, 0.01)))
            exact(c, 1)
            time.sleep(0.15 if not turn % 3 else 0.01)
            if turn % 3:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                c.close()
                continue
            for i, n in enumerate(sizes):
                if exact(c, n) != pattern(turn * 100 + i, n):
                    raise SystemExit("wrong bytes in message %d of turn %d" % (i, turn))
            c.close()
        say("right")
        return
    c = s.accept()[0]
    warm(c)
    for i, n in enumerate(sizes):
        started = time.monotonic()
        if exact(c, n) != pattern(i, n):
            raise SystemExit("wrong bytes in message %d" % i)
        if what == "asleep":
            say("took", time.monotonic() - started)
            c.sendall(b"k")
    try:
        say("end", c.recv(1))
    except ConnectionResetError:
        say("end", "reset")
    say("right")

def client():
    if what == "resets":
        for turn in range(24):
            c = socket.create_connection((addr, port))
            warm(c, *(() if not turn else (20, 0.01)))
            try:
                c.sendall(b"x")
                for i, n in enumerate(sizes if not turn % 3 else [500000]):
                    c.sendall(pattern(turn * 100 + i, n))
                c.recv(1)
            except (ConnectionResetError, BrokenPipeError):
                pass
            c.close()
        say("sent")
        return
    c = socket.create_connection((addr, port))
    warm(c)
    for i, n in enumerate(sizes):
        if what == "asleep":
            time.sleep(0.1)
        c.sendall(pattern(i, n))
        if what == "asleep":
            exact(c, 1)
    say("sent")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(0)

server() if role == "server" else client()
'''


class Pair:
    def __init__(self, rig, h, what, sizes, extra=None):
        port = free_port()
        rig.forget_counters()
        args = [h.b, port, what, json.dumps(sizes)]
        self.rig, self.sizes = rig, sizes
        self.s = rig.start(["python3", "-c", END, "server", *args], label="server", extra=extra, **h.on_b).listening(port)
        self.c = rig.start(["python3", "-c", END, "client", *args], label="client", extra=extra, **h.on_a)

    def end(self, status=0):
        self.c.wait(60, status)
        self.s.wait(60)
        check("right" in self.s.text(), self.s.text())
        return self

    def window(self):
        sums = {"tcp": 0}
        for c in self.rig.counters("client")["raw"]:
            for k, v in c.get("window", {}).items():
                sums[k] = sums.get(k, 0) + v
            sums["tcp"] += c["tcp"]["tx_bytes"]
        return sums


MIXED = [1, 100, 20 * KIB, 300 * KIB, 64 * KIB, 5, 64 * KIB - 1, 1000 * KIB, 200, 65 * KIB + 7, 3000 * KIB + 1] * 8
LONG = sum(n for n in MIXED if n >= 64 * KIB)


def streams(rig):
    """What is LONG enough goes by the engine, and nothing of it by the CPU; the rest does not."""
    for delay in (0, 300, 3000):
        with Hosts(rig, f"--port=emu:{rig.path('joint')}", log=[f"--dma=emu,delay={delay}"]) as h:
            w = Pair(rig, h, "stream", MIXED).end().window()
            print(f"delay {delay} us: {w['engine_bytes']:,} bytes by the engine in {w['engine_bulks']} slots, "
                  f"{w['bulk_bytes']:,} by the CPU, {w['tcp']} on TCP")
            # the rests of messages that were cut by credit are small
            check(LONG * 0.8 < w["engine_bytes"] <= LONG, f"{LONG} bytes were long enough: {w}")
            check(w["engine_bytes"] + w["bulk_bytes"] >= sum(MIXED) - 8 * 400 and w["tcp"] < 1000, f"{w}")
            if not delay:
                w = Pair(rig, h, "stream", MIXED, extra={"NTBSOCK_DMA_MIN": "0"}).end().window()
                check(w["engine_bulks"] == 0, f"NTBSOCK_DMA_MIN=0: {w}")
                w = Pair(rig, h, "stream", MIXED, extra={"NTBSOCK_DMA_MIN": "900K"}).end().window()
                check(0 < w["engine_bytes"] < LONG * 0.96, f"NTBSOCK_DMA_MIN=900K: {w}")


def asleep(rig, h):
    """Who sleeps when the client has asked for the copy is woken when it has landed, and not before some timer."""
    p = Pair(rig, h, "asleep", [100 * KIB] * 10).end()
    took = sorted(float(line.split()[1]) for line in p.s.text().splitlines() if line.startswith("took"))
    print(f"reader asleep, engine takes 20 ms: {took[0]:.3f} to {took[-1]:.3f} s")
    check(took[-1] < 0.4, f"the reader slept on: {took}")


def ends(rig, h):
    """The sender is gone before the engine has done a thing: what it was told was sent arrives."""
    for what, status in (("exit", 0), ("killed", -signal.SIGKILL)):
        p = Pair(rig, h, what, [700 * KIB, 100 * KIB, 300 * KIB]).end(status)
        check("end b''" in p.s.text(), p.s.text())
    print("sender gone by exit, by SIGKILL: every byte, then the end")


def halts(rig):
    with Hosts(rig, f"--port=emu:{rig.path('halt')}", log=["--dma=emu,delay=1000,halt=100"]) as h:
        w = Pair(rig, h, "stream", MIXED).end().window()
        said = h.broker(0).text()
        check("it has halted" in said, said)
        check(w["engine_bytes"] and w["bulk_bytes"] > LONG / 2, f"{w}")
        print(f"halted after 100 slots: {w['engine_bytes']:,} bytes were the engine's, {w['bulk_bytes']:,} the CPU's, all arrived")
        w = Pair(rig, h, "stream", MIXED).end().window()
        check(w["engine_bulks"] == 0, f"an engine that has halted is used: {w}")


def resets(rig, h):
    """Connections end with the engine still at it; their leases serve others, whose messages are stored by the CPU and lie
    unread for a while: nothing old is written over them."""
    w = Pair(rig, h, "resets", [30 * KIB] * 15).end().window()
    check(w["engine_bulks"] >= 16 and w["bulks"] > 100, f"{w}")
    print("16 connections reset in the middle, 8 others whole")


def cut(rig):
    """The link breaks under an engine at work: whole or reset, never wrong."""
    with Hosts(rig, f"--port=emu:{rig.path('cut')},cut=1700", log=["--dma=emu,delay=2000"]) as h:
        whole = reset = 0
        for _ in range(8):
            p = Pair(rig, h, "stream", [500 * KIB] * 200)
            p.c.p.wait(60)
            p.s.p.wait(60)
            check("wrong" not in p.s.text() and "EOFError" not in p.s.text(), p.s.text())
            whole += "right" in p.s.text()
            reset += "ConnectionResetError" in p.s.text()
        print(f"link cut every 1.7 s: {whole} whole, {reset} reset")
        check(whole + reset == 8, "some ended otherwise")
        for i in range(2):
            check(h.broker(i).p.poll() is None, "a broker has gone")
        check("it is cut" in h.broker(0).text() + h.broker(1).text(), "the link was not cut")


def test(rig):
    need("ip", root=True)
    streams(rig)
    with Hosts(rig, f"--port=emu:{rig.path('slow')}", log=["--dma=emu,delay=20000"]) as h:
        asleep(rig, h)
        ends(rig, h)
    with Hosts(rig, f"--port=emu:{rig.path('slower')}", log=["--dma=emu,delay=100000"]) as h:
        resets(rig, h)
    halts(rig)
    cut(rig)


main(test)
