#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""ftp.py - in.ftpd (stdio over sockets) with tnftp, behind socat and behind xinetd: 19 and 146 MB each way, checksummed;
passive and active data connections, a server that has changed its root, one side alone"""

import os
import shutil
import sys

from syslib import PLAIN, SRC, check, free_port, main, need, random_file, sha

sys.path.insert(0, os.path.join(SRC, "perf"))
import ftpsite  # noqa: E402

SIZES = {"small": 19090223, "big": 145864380}


def transfer(rig, site, port, files, ours=True, anonymous=False, before=(), after=()):
    """One session: each file comes and goes back under another name; all must have the same sum."""
    commands = list(before)
    for name in files:
        commands += [f"get {name} {rig.path('got-' + name)}", f"put {rig.path('got-' + name)} incoming/{name}"]
    commands += after
    with open(rig.path("commands"), "w") as f:
        f.write(ftpsite.session(port, commands, anonymous))
    with open(rig.path("commands"), "rb") as f:
        out = rig.start(["tnftp", "-n", "-v"], label="client", ours=ours, stdin=f).wait(100).text()
    check(out.count("\n226 ") == 2 * len(files) + ("ls" in after), f"not every transfer was completed:\n{out[-2000:]}")
    for name in files:
        for path in (rig.path("got-" + name), os.path.join(site.home, "incoming", name)):
            check(os.path.getsize(path) == SIZES[name] and sha(path) == files[name], f"{path} is not {name}")
            os.unlink(path)


def test(rig):
    need(*ftpsite.PROGRAMS, "socat", "xinetd", root=True)
    site = ftpsite.Site(rig.path("site"))
    files = {name: random_file(os.path.join(site.home, name), size) for name, size in SIZES.items()}
    small = {"small": files["small"]}
    for name in files:
        os.chmod(os.path.join(site.home, name), 0o644)

    for kind in ("socat", "xinetd"):
        rig.forget_counters()
        port = free_port()
        s = rig.start(getattr(site, kind)(port), label="server", wrap=site.inside()).listening(port)
        transfer(rig, site, port, files, after=["ls"])     # a program of its own, which has the control connection too
        # 99 in 100 and more; where many programs want the CPU a transfer begins with what TCP takes, 4 MB
        rig.share("client", least=0.95, what=f"tnftp, server started by {kind}", fallback=1)
        rig.share("server", least=0.95, what=f"in.ftpd, started by {kind}", fallback=1)
        if not PLAIN:
            print(f"{rig.counters('client')['tcp']:,} bytes of it by TCP, the control connection among them")
        rig.forget_counters()
        transfer(rig, site, port, small, anonymous=True)
        rig.share("client", least=0.75, what="the same, with another root", fallback=1)
        rig.share("server", least=0.75, what="in.ftpd there", fallback=1)
        rig.forget_counters()
        transfer(rig, site, port, small, before=["passive off"])
        # In.ftpd makes these sockets as root, of a reserved port, and connects them as the user.  It does not wait for a
        # client that has not accepted yet: a get begins with as much as TCP takes, 4 MB or more.
        rig.share("client", least=0.5, what="the same, in active mode", fallback=1)
        rig.share("server", least=0.5, what="in.ftpd there", fallback=1)
        s.stop()

    for ours in (True, False):
        rig.forget_counters()
        port = free_port()
        s = rig.start(site.socat(port), label="server", wrap=site.inside(), ours=ours).listening(port)
        transfer(rig, site, port, small, ours=not ours)
        s.stop()
        if not PLAIN:
            c = rig.counters()
            check(c["ring"] == 0 and c["accelerated"] == 0, f"something went over a ring with one side: {c['ring']} bytes")
            check(c["tcp"] > 2 * SIZES["small"], f"the counters do not show the bytes on TCP: {c['tcp']}")
            check(not any(x["timers_ran_out"] for x in c["raw"]), "timers ran out on the way")
            print(f"only the {'server' if ours else 'client'}: {c['tcp']:,} bytes on TCP, reasons {c['reasons']}")
    shutil.rmtree(site.dir)


main(test)
