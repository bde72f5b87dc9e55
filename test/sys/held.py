#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""held.py - connections to another host, by every way to wait for connect(): not a byte on TCP; one in vain where nobody claims"""

from hosts import Hosts
from syslib import PLAIN, check, free_port, main, need

JOINTS = {"cable": "--cable={}", "bridge": "--port=emu:{}"}

# Answers each connection with what it gets, one after the other or, with "fork", each in a child.
SERVER = r'''
import os, signal, socket, sys, time
how, addr, port, late = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
l = socket.create_server((addr, port), backlog=64)
def serve(c):
    while (d := c.recv(4096)):
        c.sendall(d)
    c.close()
while True:
    time.sleep(late)
    c = l.accept()[0]
    if how == "fork":
        if not os.fork():
            l.close()
            serve(c)
            sys.exit(0)
        c.close()
    else:
        serve(c)
'''

# One connection for each way, in turn; @times rounds.
CLIENT = r'''
import errno, select, socket, sys
addr, port, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
EPOLLET, ONESHOT = select.EPOLLET, select.EPOLLONESHOT

def begin():
    s = socket.socket()
    s.setblocking(False)
    assert s.connect_ex((addr, port)) == errno.EINPROGRESS
    return s

def blocking():
    return socket.create_connection((addr, port))

def by_poll():
    s, p = begin(), select.poll()
    p.register(s, select.POLLIN | select.POLLOUT)
    assert p.poll(20000) == [(s.fileno(), select.POLLOUT)]
    return s

def by_select():
    s = begin()
    assert select.select([s], [s], [s], 20) == ([], [s], [])
    return s

def set_for(bits, modified=False):
    def way():
        s = begin()
        with select.epoll() as e:
            e.register(s, select.EPOLLIN | bits if modified else select.EPOLLIN | select.EPOLLOUT | bits)
            if modified:
                assert not e.poll(0.001)
                e.modify(s, select.EPOLLIN | select.EPOLLOUT | bits)
            assert e.poll(20) == [(s.fileno(), select.EPOLLOUT)]
            # an edge is told once, so is what is told once, a level for as long as it holds
            assert e.poll(0) == ([] if bits else [(s.fileno(), select.EPOLLOUT)])
            if bits == ONESHOT:
                e.modify(s, select.EPOLLOUT | bits)
                assert e.poll(0) == [(s.fileno(), select.EPOLLOUT)]
        return s
    return way

def in_a_set():
    s = begin()
    with select.epoll() as inner, select.epoll() as outer:
        inner.register(s, select.EPOLLOUT)
        outer.register(inner, select.EPOLLIN)
        assert outer.poll(20) == [(inner.fileno(), select.EPOLLIN)]
        assert inner.poll(0) == [(s.fileno(), select.EPOLLOUT)]
    return s

def added_late():
    s = begin()
    while s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or not connected(s):
        pass
    with select.epoll() as e:
        e.register(s, select.EPOLLOUT)
        assert e.poll(20) == [(s.fileno(), select.EPOLLOUT)]
    return s

def connected(s):
    try:
        s.getpeername()
        return True
    except OSError:
        return False

ways = [blocking, by_poll, by_select, set_for(0), set_for(EPOLLET), set_for(ONESHOT), set_for(0, True), set_for(EPOLLET, True),
        in_a_set, added_late]
for i in range(times):
    for w in ways:
        s = w()
        s.settimeout(20)
        for size in 1, 100, 5000:
            s.sendall(b"x" * size)
            n = 0
            while n < size:
                n += len(s.recv(size - n))
        s.close()
print("done", times * len(ways))
'''


def test(rig):
    need("ip", root=True)
    for i, (joint, option) in enumerate(JOINTS.items()):
        if i and PLAIN:
            break
        with Hosts(rig, option.format(rig.path(f"joint{i}"))) as h:
            for how, ours, late in (("one", True, 0), ("fork", True, 0), ("one", False, 0), ("one", True, 0.5)):
                what = f"{joint}, {how}, {'ours' if ours else 'not ours'}{', late' if late else ''}"
                rig.forget_counters()
                port = free_port()
                s = rig.start(["python3", "-c", SERVER, how, h.b, port, late], label="server", ours=ours, **h.on_b).listening(port)
                out = rig.run(["python3", "-c", CLIENT, h.b, port, 1 if late else 3], label="client", **h.on_a)
                check("done" in out, out)
                s.stop()
                if PLAIN:
                    continue
                c = rig.counters("client")
                vain = c["raw"][0]["timers_ran_out"]
                print(f"{what}: {c['ring']} bytes on the ring, {c['tcp']} on TCP, {c['accelerated']} connections accelerated, "
                      f"{vain} waited for in vain")
                if not ours:
                    check(not c["accelerated"] and vain == 1, f"{what}: {c['accelerated']} accelerated, {vain} waits in vain")
                elif late:    # the wait was in vain, which is remembered: they begin on TCP, and work
                    check(vain == 1, f"{what}: {vain} waits in vain")
                elif how == "fork":    # a child has to begin as a process of its own, which may take too long on a busy machine
                    check(c["ring"] and vain <= 1 and (vain or not c["tcp"]), f"{what}: {c['tcp']} bytes on TCP, {vain} waits in vain")
                else:
                    check(c["ring"] and not c["tcp"] and not vain, f"{what}: {c['tcp']} bytes on TCP, {vain} waits in vain")


main(test)
