#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""socat.py - socat both ways at once, and with a forked program at the server's end"""

from syslib import check, free_port, main, need, random_file, sha


def test(rig):
    need("socat")
    for family, host in (("4", "127.0.0.1"), ("6", "[::1]")):
        # two files cross on one connection
        port = free_port()
        a, b = random_file(rig.path("a"), 150 << 20), random_file(rig.path("b"), 130 << 20)
        s = rig.start(["socat", f"TCP{family}-LISTEN:{port},bind={host}", f"OPEN:{rig.path('a')},rdonly!!OPEN:{rig.path('a2')},wronly,creat,trunc"],
                      label="server").listening(port)
        rig.run(["socat", f"TCP{family}:{host}:{port}", f"OPEN:{rig.path('b')},rdonly!!OPEN:{rig.path('b2')},wronly,creat,trunc"], label="client")
        s.wait(20)
        check(sha(rig.path("b2")) == a and sha(rig.path("a2")) == b, f"IPv{family}: the files differ")
        # what each sends before the other's turn to see the claim goes by TCP: 4 MB each way at most, 3 in 100
        rig.share("client", least=0.97, what=f"socat client, IPv{family}")
        rig.share("server", least=0.97, what=f"socat server, IPv{family}")
        rig.forget_counters()

    # fork and exec behind the listener: each connection gets its own cat, by a pair of pipes
    port = free_port()
    s = rig.start(["socat", f"TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", "EXEC:cat,pipes"], label="fork").listening(port)
    for i in range(5):
        h = random_file(rig.path("c"), 1 << 20)
        with open(rig.path("c"), "rb") as f, open(rig.path("c2"), "wb") as g:
            rig.start(["socat", "-t20", "-", f"TCP4:127.0.0.1:{port}"], label="cats", stdin=f, stdout=g).wait(30)
        check(sha(rig.path("c2")) == h, f"cat {i}: what came back differs")
    s.stop()
    rig.share("cats", least=None, what="socat, EXEC:cat, 1 MiB each")


main(test)
