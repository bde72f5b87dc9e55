# SPDX-License-Identifier: BSD-2-Clause
"""echolib.py - the smoke test that every runtime gets: an echo server and a client in its own language, test/sys/echo/

    SERVER HOW PORT CONNECTIONS     sends back what comes; at the end of the client's bytes 16 more, the MD5 of what
                                    came, and its own end; itself ends after that many connections
    CLIENT HOW PORT CONNECTIONS     on each of as many connections at once, the messages of SIZES in turn, each of which
                                    must have come back before the next goes; then STREAM bytes while it reads their
                                    echo; half-close; the 16 bytes, which must be the MD5 of what it sent and of what
                                    came back; the server's end.  Says "CONNECTIONS whole", and ends with status 0

HOW is the way of the runtime in question: threads, events, processes.  Both sides meet Python's as well, so that
no mistake of theirs is made twice."""

import os

from syslib import SRC, check, free_port

SIZES = [1, 2, 54, 55, 116, 117, 1000, 16383, 16384, 16385, 70000, 200000]
STREAM = 1 << 20
HERE = os.path.join(SRC, "test/sys/echo")
PYTHON = ["python3", os.path.join(HERE, "echo.py")]


def pair(rig, name, server, client, connections=40, least=0.95, seconds=60, after=()):
    """One server, one client: both end by themselves, the client content; the share of both on the ring (what goes before the claim
    is answered goes by TCP, and how much that is depends on who gets the CPU)."""
    port = free_port()
    rig.forget_counters()
    s = rig.start([*server, port, connections, *after], label="server").listening(port, seconds)
    out = rig.run([*client, port, connections, *after], label="client", seconds=seconds)
    check(f"{connections} whole" in out, f"{name}: the client said\n{out[-2000:]}")
    s.wait(20)
    whole = connections * 2 * (sum(SIZES) + STREAM)
    for side in ("server", "client"):
        rig.share(side, least=least, what=f"{name}, {side}")
    c = rig.counters("client")
    check(not c["processes"] or least is None or c["ring"] + c["tcp"] >= whole, f"{name}: the counters know of {c['ring'] + c['tcp']} bytes, {whole} were sent")


def runtime(rig, name, how, server, client, **kw):
    """A runtime in one of its ways with itself, and each side with Python's threads."""
    pair(rig, f"{name} {how}", [*server, how], [*client, how], **kw)
    pair(rig, f"{name} {how} and a Python client", [*server, how], [*PYTHON, "client", "threads"], **kw)
    pair(rig, f"Python server and {name} {how}", [*PYTHON, "server", "threads"], [*client, how], **kw)
