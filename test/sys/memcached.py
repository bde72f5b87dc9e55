#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""memcached.py - memcached with memcaslap, which compares every value it gets with the one it set"""

import os
import re
import signal

from syslib import check, free_port, main, need


def test(rig):
    need("memcached", "memcaslap")
    port = free_port()
    user = ["-u", "root"] if not os.geteuid() else []
    s = rig.start(["memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "2", "-m", "256", *user], label="memcached").listening(port)
    for binary in ([], ["-B"]):
        out = rig.run(["memcaslap", "-s", f"127.0.0.1:{port}", "-T", "2", "-c", "8", "-x", "60000", "-v", "1.0", *binary], label="slap")
        m = re.search(r"verify_misses: (\d+)[\s\S]*verify_failed: (\d+)", out)
        check(m, f"memcaslap says nothing of its verification:\n{out[-1500:]}")
        check(m.group(2) == "0", f"memcaslap: {m.group(2)} values came back different:\n{out[-1500:]}")
        done = re.search(r"cmd_get: (\d+)", out)
        check(done and int(done.group(1)) > 10000, f"memcaslap read too little:\n{out[-1500:]}")
        print(f"memcaslap {binary}: {done.group(1)} gets, {m.group(1)} misses, {m.group(2)} differ")
    s.stop(signal.SIGTERM)
    rig.share("slap")
    rig.share("memcached")


main(test)
