#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 180
"""rsync.py - copies to and from an rsync daemon; 64 MiB in check, 1 GiB in soak"""

import os
import subprocess

from syslib import SOAK, check, free_port, main, need, random_file


def test(rig):
    need("rsync")
    port, size = free_port(), (1 << 30) if SOAK else 64 << 20
    src, mod = rig.path("src"), rig.path("mod")
    os.makedirs(src + "/sub")
    os.mkdir(mod)
    random_file(src + "/big", size - (8 << 20))
    for i in range(200):
        random_file(f"{src}/sub/{i}", i * 200)
    for i in range(8):
        random_file(f"{src}/m{i}", 1 << 20)
    uid = "uid = root\ngid = root\n" if not os.geteuid() else ""
    with open(rig.path("rsyncd.conf"), "w") as f:
        f.write(f"use chroot = no\n{uid}pid file = {rig.path('rsyncd.pid')}\nlog file = {rig.path('rsyncd.log')}\n"
                f"[mod]\npath = {mod}\nread only = no\n")
    s = rig.start(["rsync", "--daemon", "--no-detach", "--port", port, "--address", "127.0.0.1", "--config", rig.path("rsyncd.conf")],
                  label="rsyncd").listening(port)
    url = f"rsync://127.0.0.1:{port}/mod/"
    rig.run(["rsync", "-a", "--whole-file", src + "/", url], label="push", seconds=150)
    rig.run(["rsync", "-a", "--whole-file", url, rig.path("back") + "/"], label="pull", seconds=150)
    check(subprocess.call(["diff", "-r", src, mod]) == 0, "what the daemon wrote differs")
    check(subprocess.call(["diff", "-r", src, rig.path("back")]) == 0, "what came back differs")
    # the second time nothing is to be done, with checksums of everything
    out = rig.run(["rsync", "-a", "--checksum", "--itemize-changes", src + "/", url], label="again", seconds=150)
    check(not [x for x in out.splitlines() if x.startswith(("<f", ">f"))], f"rsync found differences:\n{out[:500]}")
    s.stop()
    rig.share("push")
    rig.share("pull")


main(test)
