#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""compare.py - in both guests: ntbsock beside ntb_netdev, what a user would otherwise take, over the same bridge

First Linux' drivers have the port, and pingpong runs on TCP over ntb_netdev; then vfio-pci has it, and pingpong runs on
TCP with ntbsock.  One-way time of small messages and bytes a second of a stream, TURNS times each; what counts is the
median, and of it the ratio alone: these are emulated CPUs.  Guest a leaves /out/report.json, which suite.py prints and
keeps.  With RIG_PLAIN=1 the second half is TCP over the guests' other network."""

import json
import os
import statistics
import subprocess

from guestlib import (BRIDGE, ME, PEER, PLAIN, Checks, Host, expect, kernel_is_fine, on_wire, pci_find, read, tell, together, wait_for,
                      FUNCTION)

TURNS = 5
OVER_NETDEV = {"a": "10.78.0.1", "b": "10.78.0.2"}
SIZE = 64
MESSAGES = int(os.environ.get("RIG_MESSAGES", "500"))
STREAM = os.environ.get("RIG_STREAM", "8M")


def run(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def netdev_up():
    """ntb_netdev between the guests."""
    port = pci_find(FUNCTION[BRIDGE])
    run("modprobe", "ntb_hw_amd" if BRIDGE == "amd" else "ntb_hw_intel")
    wait_for(lambda: os.path.exists(f"/sys/bus/ntb/devices/{port}"), 10, "no device on the bus ntb")
    together("ntb")
    if BRIDGE == "amd":     # lib.sh, bind_linux: it announces the link once more when a second has gone
        run("sleep", "3")
    run("modprobe", "ntb_transport")
    run("modprobe", "ntb_netdev")
    name = next(n for n in os.listdir("/sys/class/net") if n not in ("lo", "eth0"))
    run("ip", "addr", "add", OVER_NETDEV[ME] + "/24", "dev", name)
    run("ip", "link", "set", name, "up")
    wait_for(lambda: read(f"/sys/class/net/{name}/carrier") == "1", 30, "no carrier")
    together("carrier")
    wait_for(lambda: subprocess.run(["ping", "-c", "1", "-W", "2", OVER_NETDEV[PEER]], stdout=subprocess.DEVNULL,
                                    check=False).returncode == 0, 30, "no answer to ping")
    together("ping")


def netdev_down():
    for module in ("ntb_netdev", "ntb_transport", "ntb_hw_amd" if BRIDGE == "amd" else "ntb_hw_intel"):
        run("modprobe", "-r", module)
    together("unloaded")


def measure(host, name, address, ours):
    """{latency: [ns...], stream: [bytes a second...]} in a; nothing in b, which serves."""
    port = 7400 if ours else 7500
    found = {"latency": [], "stream": []}
    if ME == "b":
        server = host.start([f"{host.bin}/pingpong", "server", "-p", port], name, ours=ours).listening(port)
        together(name)
        together(name + "-done", 200)
        server.stop()
        return found
    together(name)
    for _ in range(TURNS):
        for test, args in (("latency", ["--sizes", SIZE, "--count", MESSAGES]), ("stream", ["--sizes", "64K", "--bytes", STREAM])):
            out = host.run([f"{host.bin}/pingpong", "client", address, "-p", port, f"--{test}", "--json", *args], 90, label=name,
                           ours=ours)
            r = json.loads(out[out.index("{"):])["results"][0]
            found[test].append(r["oneway_ns"]["median"] if test == "latency" else r["bytes_per_second"])
    together(name + "-done", 200)
    print(name, json.dumps(found), flush=True)
    return found


def ring_only(host, wire):
    """The numbers are the bridge's only if the bytes were there."""
    n = host.counters()
    print(n, "eth0", wire, flush=True)
    ring = n["tx"] + n["rx"]
    expect(n["tcp"] < ring / 10 and not n["fallback"], f"{n}")


def report(linux, ours):
    both = {"ntb_netdev": linux, "ntbsock": ours}
    median = {k: {t: statistics.median(v) for t, v in r.items()} for k, r in both.items()}
    tell("report.json", json.dumps({
        "bridge": BRIDGE, "windows": os.environ.get("RIG_WINDOWS", ""), "turns": TURNS, "message_bytes": SIZE,
        "stream_bytes": STREAM, "one_way_ns": {k: r["latency"] for k, r in both.items()},
        "stream_bytes_per_second": {k: r["stream"] for k, r in both.items()},
        "one_way_ratio": median["ntbsock"]["latency"] / median["ntb_netdev"]["latency"],
        "stream_ratio": median["ntbsock"]["stream"] / median["ntb_netdev"]["stream"]}, indent=1) + "\n")


def main():
    check = Checks(5 if PLAIN else 7)
    host = Host()
    check("ntb_netdev is up", netdev_up) or check.finish()
    linux = check("pingpong over ntb_netdev", measure, host, "netdev", OVER_NETDEV["b"], False) or check.finish()
    check("Linux' drivers let go", netdev_down) or check.finish()
    if not PLAIN:
        check("vfio-pci has the port, and the brokers meet", lambda: (host.take_port(), together("bound"), host.start_broker(),
                                                                      together("up"))) or check.finish()
    wire = on_wire()
    ours = check("pingpong over ntbsock", measure, host, "ntbsock", host.its, True) or check.finish()
    if not PLAIN:
        check("its bytes went through the window", ring_only, host, on_wire() - wire)
    if ME == "a":
        report(linux, ours)
    check("the kernel has nothing to complain of", kernel_is_fine)
    check.finish()


main()
