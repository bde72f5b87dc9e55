#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""netns.py - two emulated hosts: two network namespaces, a broker in each, a cable or an emulated bridge between them"""

import json
import os
import subprocess

from syslib import PLAIN, check, free_port, main, need

A, B = "10.99.1.1", "10.99.1.2"


JOINTS = {"cable": "--cable={}", "bridge": "--port=emu:{}", "late bells": "--port=emu:{},delay=300"}


def test(rig):
    need("ip", "iperf3", "redis-server", "redis-benchmark", root=True)
    for i, joint in enumerate(JOINTS):
        if i and PLAIN:
            break
        print(joint)
        joined(rig, i, joint)


def joined(rig, nr, joint):
    names = [f"ntbs{os.getpid()}{x}{nr}" for x in "ab"]
    a, b = f"a{nr}", f"b{nr}"

    inside = []     # nsenter and not `ip -n`, which wants to change mounts and cannot where / is none (chroot)

    def ip(*args, host=()):
        r = subprocess.run([*host, "ip", *args], capture_output=True, text=True)
        check(r.returncode == 0, f"{' '.join([*host, 'ip', *args])}: {r.stderr}")

    try:
        for n in names:
            ip("netns", "add", n)
            inside.append(["nsenter", f"--net=/run/netns/{n}"])
            ip("link", "set", "lo", "up", host=inside[-1])
        veths = [f"v{os.getpid() % 100000}{x}" for x in "ab"]
        ip("link", "add", veths[0], "netns", names[0], "type", "veth", "peer", "name", veths[1], "netns", names[1])
        for n, v, addr in zip(inside, veths, (A, B)):
            ip("addr", "add", addr + "/24", "dev", v, host=n)
            ip("link", "set", v, "up", host=n)

        if not PLAIN:
            for host, other, node in ((a, B, 2), (b, A, 1)):
                os.makedirs(rig.path("conf-" + host))
                with open(rig.path("conf-" + host, "nodes.conf"), "w") as f:
                    f.write(f"{other} {node}\n")
            option = JOINTS[joint].format(rig.path(f"joint{nr}"))
            rig.broker(a, ["--node", "1", option], wrap=inside[0])
            rig.broker(b, ["--node", "2", option], wrap=inside[1])

        for args in (["-P", "4"], ["-R"], ["--bidir"]):
            port = free_port()
            rig.forget_counters()
            s = rig.start(["iperf3", "-s", "-1", "-p", port], label="server", broker=b, wrap=inside[1], witness=True).listening(port)
            out = json.loads(rig.run(["iperf3", "-c", B, "-p", port, "-J", "-n", "60M", *args], label="client", broker=a, wrap=inside[0],
                                     witness=True))
            check("error" not in out, f"iperf3 {args}: {out.get('error')}")
            s.wait(20)
            rig.share("client", least=0.95, what=f"iperf3 {args} between two hosts")
            rig.same("client", "server", unread_ok=True)

        rig.forget_counters()
        port = free_port()
        s = rig.start(["redis-server", "--port", port, "--save", "", "--bind", B, "--protected-mode", "no"], label="redis", broker=b,
                      wrap=inside[1]).listening(port)
        out = rig.run(["redis-benchmark", "-h", B, "-p", port, "-q", "-c", 20, "-n", 40000, "-t", "set,get", "-d", 64], label="bench",
                      broker=a, wrap=inside[0])
        check(out.count("requests per second") == 2, out)
        s.stop()
        rig.share("bench", what="redis between two hosts")
    finally:
        for p in rig.programs:
            if p.p.poll() is None:
                p.p.kill()
                p.p.wait()
        for n in names:
            subprocess.run(["ip", "netns", "del", n], capture_output=True)


main(test)
