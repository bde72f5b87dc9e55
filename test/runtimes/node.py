#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""node.py - Node: its streams, with back-pressure; a cluster, whose workers get their connections by descriptor passing"""

from echolib import HERE, pair, runtime
from syslib import main, need


def test(rig):
    need("node")
    node = ["node", HERE + "/echo.js"]
    runtime(rig, "Node", "events", [*node, "server"], [*node, "client"])
    # what is passed on goes to TCP first: only that all of it comes
    pair(rig, "Node cluster", [*node, "server", "cluster"], [*node, "client", "events"], least=None)
    rig.nothing_left("Node")


main(test)
