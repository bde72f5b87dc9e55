#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""netns.py - two emulated hosts, joined by a cable or by an emulated bridge: iperf3 and redis between them"""

import json

from hosts import Hosts
from syslib import PLAIN, check, free_port, main, need

JOINTS = {"cable": "--cable={}", "bridge": "--port=emu:{}", "bridge with late bells": "--port=emu:{},delay=300"}


def test(rig):
    need("ip", "iperf3", "redis-server", "redis-benchmark", root=True)
    for i, joint in enumerate(JOINTS):
        if i and PLAIN:
            break
        print(joint)
        with Hosts(rig, JOINTS[joint].format(rig.path(f"joint{i}"))) as h:
            joined(rig, h)


def joined(rig, h):
    for args in (["-P", "4"], ["-R"], ["--bidir"]):
        port = free_port()
        rig.forget_counters()
        s = rig.start(["iperf3", "-s", "-1", "-p", port], label="server", witness=True, **h.on_b).listening(port)
        out = json.loads(rig.run(["iperf3", "-c", h.b, "-p", port, "-J", "-n", "200M", *args], label="client", witness=True, **h.on_a))
        check("error" not in out, f"iperf3 {args}: {out.get('error')}")
        s.wait(20)
        rig.share("client", least=1, what=f"iperf3 {args} between two hosts")
        rig.same("client", "server", unread_ok=True)

    rig.forget_counters()
    port = free_port()
    s = rig.start(["redis-server", "--port", port, "--save", "", "--bind", h.b, "--protected-mode", "no"], label="redis",
                  **h.on_b).listening(port)
    out = rig.run(["redis-benchmark", "-h", h.b, "-p", port, "-q", "-c", 20, "-n", 40000, "-t", "set,get", "-d", 64], label="bench",
                  **h.on_a)
    check(out.count("requests per second") == 2, out)
    s.stop()
    rig.share("bench", least=1, what="redis between two hosts")


main(test)
