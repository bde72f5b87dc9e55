# SPDX-License-Identifier: BSD-2-Clause
"""hosts.py - two emulated hosts: network namespaces joined by a veth pair, a broker in each"""

import os
import subprocess

from syslib import PLAIN, check


class Hosts:
    """"with Hosts(rig, "--cable=PATH") as h": addresses h.a, h.b; run programs with **h.on_a, **h.on_b."""

    count = 0

    def __init__(self, rig, option, log=()):
        Hosts.count += 1
        self.rig, self.option, self.log = rig, option, list(log)
        self.names = [f"ntbs{os.getpid()}{x}{Hosts.count}" for x in "ab"]
        self.a, self.b = "10.99.1.1", "10.99.1.2"
        self.brokers = [f"a{Hosts.count}", f"b{Hosts.count}"]
        self.inside = []    # nsenter and not `ip -n`, which wants to change mounts and cannot where / is none (chroot)

    def _ip(self, *args, host=()):
        r = subprocess.run([*host, "ip", *args], capture_output=True, text=True)
        check(r.returncode == 0, f"{' '.join([*host, 'ip', *args])}: {r.stderr}")

    def start_broker(self, i):
        self.rig.broker(self.brokers[i], ["--node", str(i + 1), self.option, *self.log], wrap=self.inside[i])
        return self.rig.brokers[self.brokers[i]]

    def broker(self, i):
        return self.rig.brokers[self.brokers[i]]

    def __enter__(self):
        for n in self.names:
            self._ip("netns", "add", n)
            self.inside.append(["nsenter", f"--net=/run/netns/{n}"])
            self._ip("link", "set", "lo", "up", host=self.inside[-1])
        veths = [f"v{os.getpid() % 100000}{x}" for x in "ab"]
        self._ip("link", "add", veths[0], "netns", self.names[0], "type", "veth", "peer", "name", veths[1], "netns", self.names[1])
        for n, v, addr in zip(self.inside, veths, (self.a, self.b)):
            self._ip("addr", "add", addr + "/24", "dev", v, host=n)
            self._ip("link", "set", v, "up", host=n)
        if not PLAIN:
            for i, other in enumerate((self.b, self.a)):
                os.makedirs(self.rig.path("conf-" + self.brokers[i]))
                with open(self.rig.path("conf-" + self.brokers[i], "nodes.conf"), "w") as f:
                    f.write(f"{other} {2 - i}\n")
                self.start_broker(i)
        self.on_a = {"broker": self.brokers[0], "wrap": self.inside[0]}
        self.on_b = {"broker": self.brokers[1], "wrap": self.inside[1]}
        return self

    def __exit__(self, *_):
        for p in self.rig.programs:
            if p.p.poll() is None:
                p.p.kill()
                p.p.wait()
        for n in self.names:
            subprocess.run(["ip", "netns", "del", n], capture_output=True)
