#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 150
"""java.py - Java: sockets that block, a selector, asynchronous channels; each with itself and with Python"""

import subprocess

from echolib import HERE, runtime
from syslib import main, need


def test(rig):
    need("java", "javac")
    classes = rig.path("classes")
    subprocess.run(["javac", "-d", classes, HERE + "/Echo.java"], check=True, stdin=subprocess.DEVNULL)
    java = ["java", "-Xshare:auto", "-cp", classes, "Echo"]
    for how in ("blocking", "nio", "async"):
        runtime(rig, "Java", how, [*java, "server"], [*java, "client"])
    rig.nothing_left("Java")


main(test)
