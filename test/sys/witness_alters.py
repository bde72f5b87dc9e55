#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""witness_alters.py - the witness agrees with itself on a stream, and finds out a single altered byte"""

from syslib import check, free_port, main, need


def test(rig):
    need("socat")
    for flip, extra in ((False, None), (True, {"WITNESS_FLIP": "777777"})):
        port = free_port()
        rig.forget_counters()
        s = rig.start(["socat", "-u", f"TCP4-LISTEN:{port},bind=127.0.0.1", f"OPEN:{rig.path('out')},creat,trunc"], label="server",
                      witness=True, extra=extra).listening(port)
        with open(rig.path("in"), "wb") as f:
            f.write(bytes(range(256)) * 8192)
        rig.run(["socat", "-u", f"OPEN:{rig.path('in')}", f"TCP4:127.0.0.1:{port}"], label="client", witness=True)
        s.wait(20)
        pairs, payload, wrong = rig.compare("client", "server")
        check(pairs == 1 and payload == 256 * 8192, f"{pairs} connections, {payload} bytes")
        if flip:
            check(len(wrong) == 1, f"one altered byte was not found out: {wrong}")
            print("altered byte found out:", wrong[0])
        else:
            check(not wrong, f"differs although nothing was altered: {wrong}")


main(test)
