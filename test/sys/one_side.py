#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""one_side.py - with only one side under ntbsock everything is plain TCP, and nobody waits for anything on the way"""

import re
import time

from syslib import PLAIN, check, free_port, main, need, random_file, sha


def test(rig):
    need("redis-server", "redis-benchmark", "curl", "socat")
    for server_ours in (True, False):
        side = "server" if server_ours else "client"
        rig.forget_counters()
        port = free_port()
        s = rig.start(["redis-server", "--port", port, "--save", "", "--bind", "127.0.0.1"], label="redis", ours=server_ours).listening(port)
        out = rig.run(["redis-benchmark", "-p", port, "-q", "-c", 50, "-n", 20000, "-t", "set,get"], label="bench", ours=not server_ours)
        check(len(re.findall(r"requests per second", out)) == 2, out)
        # a connection each: if somebody waited for a claim that cannot come, it would show here
        start = time.monotonic()
        out = rig.run(["redis-benchmark", "-p", port, "-q", "-c", 1, "-k", 0, "-n", 300, "-t", "get"], label="bench", ours=not server_ours)
        each = (time.monotonic() - start) / 300
        print(f"only the {side} under ntbsock: {each * 1e3:.2f} ms for a process's 300 connections each")
        check(each < 0.02, f"{each * 1e3:.1f} ms for a connection: something waits")
        s.stop()

        port = free_port()
        h = random_file(rig.path("a"), 20 << 20)
        s = rig.start(["socat", "-u", f"TCP4-LISTEN:{port},bind=127.0.0.1", f"OPEN:{rig.path('b')},creat,trunc"], label="socat",
                      ours=server_ours).listening(port)
        rig.run(["socat", "-u", f"OPEN:{rig.path('a')}", f"TCP4:127.0.0.1:{port}"], label="put", ours=not server_ours)
        s.wait(20)
        check(sha(rig.path("b")) == h, "the file differs")
        if not PLAIN:
            c = rig.counters()
            check(c["processes"], "nobody wrote counters")
            check(c["ring"] == 0 and c["accelerated"] == 0, f"something went over a ring with one side: {c['ring']} bytes")
            check(c["tcp"] > 20 << 20, f"the counters do not show the bytes on TCP: {c['tcp']}")
            timers = [s["timers_ran_out"] for s in c["raw"]]
            check(not any(timers), f"timers ran out on the way: {timers}")
            print(f"only the {side}: {c['tcp']:,} bytes on TCP, reasons {c['reasons']}")


main(test)
