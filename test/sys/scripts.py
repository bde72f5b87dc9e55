#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""scripts.py - Perl (children; select), Ruby (threads; select) and Erlang (passive, active, socket NIF) as echo servers and clients"""

from echolib import HERE, runtime
from syslib import main, need

RUNTIMES = [
    ("Perl", ["perl", HERE + "/echo.pl"], ("processes", "events"), 20),
    ("Ruby", ["ruby", HERE + "/echo.rb"], ("threads", "events"), 25),
    ("Erlang", ["escript", HERE + "/echo.erl"], ("passive", "active", "socket"), 25),
]


def test(rig):
    need("perl", "ruby", "escript")
    for name, command, hows, connections in RUNTIMES:
        for how in hows:
            runtime(rig, name, how, [*command, "server"], [*command, "client"], connections=connections)
        rig.nothing_left(name)


main(test)
