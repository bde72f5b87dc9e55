#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""knobs.py - NTBSOCK_DISABLE, _STATS and unknown names; the keys of the counters; exit status and pid under run"""

import json
import re

from syslib import PLAIN, check, free_port, main, need, random_file, sha

KEYS = ("connections.accelerated", "connections.fallback", "tx.bytes", "rx.bytes", "tx.inline", "tx.short", "tx.long", "wakes", "sleeps",
        "tcp.bytes")


def test(rig):
    need("socat")
    if PLAIN:
        return

    def transfer(label, extra):
        port = free_port()
        h = random_file(rig.path("a"), 64 << 20)
        s = rig.start(["socat", "-u", f"TCP4-LISTEN:{port},bind=127.0.0.1", f"OPEN:{rig.path('b')},creat,trunc"], label="server").listening(port)
        out = rig.run(["socat", "-u", f"OPEN:{rig.path('a')}", f"TCP4:127.0.0.1:{port}"], label=label, extra=extra)
        s.wait(20)
        check(sha(rig.path("b")) == h, f"{label}: the file differs")
        return out

    out = transfer("stderr", {"NTBSOCK_STATS": "-"})
    m = re.search(r"^\{.*", out, re.M | re.S)
    check(m, f"NTBSOCK_STATS=- wrote no JSON to standard error:\n{out}")
    stats = json.loads(m.group(0))
    for key in KEYS:
        value = stats
        for part in key.split("."):
            check(isinstance(value, dict) and part in value, f"the counters have no {key}: {json.dumps(stats)}")
            value = value[part]
    check(stats["tx"]["bytes"] > 32 << 20, f"tx.bytes is {stats['tx']['bytes']}")

    rig.forget_counters()
    transfer("disabled", {"NTBSOCK_DISABLE": "1"})
    c = rig.counters("server")
    check(c["ring"] == 0 and c["tcp"] >= 64 << 20, f"NTBSOCK_DISABLE=1 on one side, and yet: {c}")

    out = transfer("unknown", {"NTBSOCK_NONSENSE": "1"})
    check("NTBSOCK_NONSENSE" in out, f"no warning names the unknown knob NTBSOCK_NONSENSE:\n{out}")
    out = transfer("wrong", {"NTBSOCK_POLL_US": "many"})
    check("NTBSOCK_POLL_US" in out and "many" in out, f"no warning names the wrong value of NTBSOCK_POLL_US:\n{out}")

    rig.run(["sh", "-c", "exit 42"], label="status", status=42)
    rig.run(["sh", "-c", "kill -11 $$"], label="signal", status=-11)
    p = rig.start(["sh", "-c", "echo $$"], label="pid").wait(20)
    check(p.text().strip() == str(p.pid), f"the program has pid {p.text().strip()}, run had {p.pid}")
    rig.run(["/nonexistent/program"], label="missing", status=127)


main(test)
