#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 90
"""drain.py - `ntbsock-ctl drain` under load: no byte lost, doubled or reordered, and the connections go on over TCP

Streams with contents that their readers know, in both directions at once, blocking and by epoll, small and large
messages, with a reader that is slow; and redis under redis-benchmark between witnesses."""

import time

from syslib import PLAIN, check, free_port, main, need

# Each side sends a stream that the other can compute, and checks what it gets, until told to stop by a half-close.
PAIR = r'''
import hashlib, random, select, socket, sys, threading, time
role, port, n, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
size = {"small": 40, "mixed": 3000, "large": 300000}[sys.argv[5]]
seconds = float(sys.argv[6])
block = hashlib.shake_256(b"ntbsock").digest(1 << 20)
block += block[:1 << 19]        # the stream repeats after 1 MiB
total = [0, 0]

def piece(pos, length):
    at = pos & (1 << 20) - 1
    return memoryview(block)[at:at + min(length, 1 << 19)]

def verify(got, pos):
    done = 0
    while done < len(got):
        want = piece(pos + done, len(got) - done)
        assert got[done:done + len(want)] == want, "the stream differs near byte %d" % (pos + done)
        done += len(want)

def sender(s, until, rnd):
    pos = 0
    while time.monotonic() < until:
        pos += s.send(piece(pos, rnd.randrange(1, size + 1)))
        if size < 100 and rnd.random() < 0.01:
            time.sleep(0.001)
    s.shutdown(socket.SHUT_WR)
    total[0] += pos

def reader(s, rnd):
    pos = 0
    while True:
        got = s.recv(rnd.choice((100, 5000, 1 << 18)))
        if not got:
            break
        verify(got, pos)
        pos += len(got)
        if rnd.random() < 0.001:
            time.sleep(0.02)
    total[1] += pos

def by_threads(socks, until):
    t = []
    for s in socks:
        t.append(threading.Thread(target=sender, args=(s, until, random.Random(s.fileno()))))
        t.append(threading.Thread(target=reader, args=(s, random.Random(s.fileno()))))
    for x in t: x.start()
    for x in t: x.join()

def by_epoll(socks, until, flags):
    ep, at, rnd = select.epoll(), {}, random.Random(1)
    for s in socks:
        s.setblocking(False)
        ep.register(s, select.EPOLLIN | select.EPOLLOUT | flags)
        at[s.fileno()] = [s, 0, 0, False, False]
    open_ = len(at)
    while open_:
        for fd, ev in ep.poll(10) or [(None, 0)]:
            assert fd is not None, "nothing for 10 s: %r" % [(x[1], x[2], x[3], x[4]) for x in at.values()]
            c = at[fd]
            try:
                for burst in range(20):     # others want their turn
                    if not ev & select.EPOLLIN or c[4]:
                        break
                    got = c[0].recv(1 << 16)
                    if not got:
                        c[4] = True
                    verify(got, c[2])
                    c[2] += len(got)
                else:           # the edge is shown again
                    ep.modify(c[0], select.EPOLLIN | select.EPOLLOUT | flags)
            except BlockingIOError:
                pass
            try:
                for burst in range(20):
                    if c[3]:
                        break
                    if time.monotonic() > until:
                        c[0].shutdown(socket.SHUT_WR)
                        c[3] = True
                    else:
                        c[1] += c[0].send(piece(c[1], rnd.randrange(1, size + 1)))
                else:
                    ep.modify(c[0], select.EPOLLIN | select.EPOLLOUT | flags)
            except BlockingIOError:
                pass
            if c[3] and c[4] and c[0].fileno() >= 0:
                ep.unregister(fd)
                total[0] += c[1]; total[1] += c[2]
                c[0].close()
                open_ -= 1

if role == "server":
    l = socket.create_server(("127.0.0.1", port), backlog=128)
    socks = [l.accept()[0] for _ in range(n)]
else:
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(n)]
until = time.monotonic() + seconds
if mode == "threads":
    by_threads(socks, until)
else:
    by_epoll(socks, until, select.EPOLLET if mode == "edge" else 0)
print("sent", total[0], "received", total[1])
'''


def on_ring(rig, port, n):
    """Waits until that many ends are on the ring at least one way; they are made as fast as programs start."""
    end, most, seen = time.monotonic() + 10, 0, []
    while time.monotonic() < end:
        got = rig.ctl("connections", "--port", str(port), "--ring")["connections"]
        if len(got) >= n:
            return
        if len(got) >= most:
            most, seen = len(got), [(x["pid"], x["stage"], x["tx"]["state"], x["rx"]["state"]) for x in
                                    rig.ctl("connections", "--port", str(port))["connections"]]
        time.sleep(0.02)
    check(False, f"at most {most} of {n} ends came to be on the ring: {seen}")


def pair(rig, n, mode, size, seconds=2.5):
    port = free_port()
    name = f"{mode}-{size}"
    args = [port, n, mode, size, seconds]
    s = rig.start(["python3", "-c", PAIR, "server", *args], label=name + "-server").listening(port)
    c = rig.start(["python3", "-c", PAIR, "client", *args], label=name + "-client")
    if not PLAIN:
        on_ring(rig, port, 2 * n)
        time.sleep(0.5)
        r = rig.ctl("drain", "--port", str(port))
        check(r["found"] >= 2 * n and r["left"] == 0, f"{name}: drain says {r}")
        before = {(x["pid"], x["local"]["port"], x["remote"]["port"]): x for x in
                  rig.ctl("connections", "--port", str(port))["connections"] if x["stage"] != "new"}
        check(not [x for x in before.values() if x["tx"]["state"] == "ring" or x["rx"]["state"] in ("ring", "drain")],
              f"{name}: a direction is on the ring after drain")
    sent = [p.wait(30).text().split() for p in (c, s)]
    check(sent[0][1] == sent[1][3] and sent[0][3] == sent[1][1], f"{name}: {sent}")
    if not PLAIN:
        k = rig.counters(name + "-*")
        check(k["ring"] and k["tcp"] > k["ring"] / 1000, f"{name}: {k['ring']} bytes on the ring, then {k['tcp']} on TCP")
        print(f"{name}: {k['ring'] >> 20} MiB on the ring, then {k['tcp'] >> 20} MiB on TCP")


def redis(rig):
    need("redis-server", "redis-benchmark")
    port = free_port()
    s = rig.start(["redis-server", "--port", port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"], label="redis",
                  witness=True).listening(port)
    b = rig.start(["redis-benchmark", "-h", "127.0.0.1", "-p", port, "-q", "-t", "set,get", "-c", "50", "-P", "8", "-n", "400000"],
                  label="benchmark", witness=True)
    if not PLAIN:
        on_ring(rig, port, 40)
        r = rig.ctl("drain", "--program", "redis-server")
        check(r["found"] and r["left"] == 0, f"redis: drain says {r}")
    b.wait(60)
    s.stop()
    rig.same("benchmark", "redis", unread_ok=True)
    if not PLAIN:
        k = rig.counters("redis")
        check(k["tcp"] > 100000, f"redis: only {k['tcp']} bytes after the drain")


def test(rig):
    for mode, size, n in (("threads", "small", 4), ("threads", "large", 2), ("level", "mixed", 20), ("edge", "large", 8),
                          ("edge", "small", 10)):
        pair(rig, n, mode, size)
    redis(rig)
    if not PLAIN:       # a choice that is none, and one that finds nothing
        r = rig.ctl("drain", "--port", "1")
        check(r == {"found": 0, "left": 0}, r)


main(test)
