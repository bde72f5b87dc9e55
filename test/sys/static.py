#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""static.py - a program that is linked statically, as most of Go's are: `run` says that it cannot take part, it works on TCP, and the
other side, which could, says why it did not"""

import os
import subprocess
import time

from syslib import PLAIN, SRC, check, free_port, main

N = 20


def test(rig):
    source = os.path.join(SRC, "test/sys/echo/static.c")
    for name, flags in (("static", ["-static"]), ("dynamic", [])):
        subprocess.run([os.environ.get("CC", "gcc"), "-O2", *flags, "-o", f"{rig.bin}/{name}", source], check=True, stdin=subprocess.DEVNULL)
    for server, client, reason in (("static", "dynamic", ("offered", "unclaimed")), ("dynamic", "static", ("no-offer",)),
                                   ("dynamic", "dynamic", None)):
        rig.forget_counters()
        port = free_port()
        s = rig.start([f"{rig.bin}/{server}", "server", port, N], label="server").listening(port)
        r, w = os.pipe()
        c = rig.start([f"{rig.bin}/{client}", "client", port, N], label="client", stdin=r)
        os.close(r)
        end = time.monotonic() + 20
        while f"{N} same" not in c.text():
            check(c.p.poll() is None and time.monotonic() < end, "the client said:\n" + c.text())
            time.sleep(0.02)
        if not PLAIN:
            for p, name in ((s, server), (c, client)):
                said = "linked statically and cannot be preloaded" in p.text()
                check(said == (name == "static"), f"`run` of a {name} program said:\n{p.text()}")
            seen = [x for x in rig.ctl("connections")["connections"] if port in (x["local"]["port"], x["remote"]["port"])]
            if reason:
                check(len(seen) == 1 and seen[0]["reason"] in reason and not seen[0]["on_ring"], f"{server} server, {client} client: {seen}")
                print(f"{server} server, {client} client: '{seen[0]['reason_text']}'")
            else:
                check(len(seen) == 2 and all(x["on_ring"] for x in seen), f"without a static program, and yet: {seen}")
        os.close(w)
        c.wait(20)
        s.wait(20)
        if not PLAIN:
            total = rig.counters()
            check(total["processes"] == (1 if reason else 2), f"{total['processes']} processes wrote counters")
            if reason:
                check(not total["ring"] and not total["accelerated"] and total["tcp"], f"{server} server, {client} client: {total}")
        rig.nothing_left(f"a {server} server and a {client} client")


main(test)
