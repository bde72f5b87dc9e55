#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""iperf3.py - iperf3 with four streams, reversed, both directions at once; contents by the witness"""

import json

from syslib import check, free_port, main, need


def test(rig):
    need("iperf3")
    for args in (["-P", "4"], ["-R"], ["--bidir"], ["-6"]):
        for witness in (False, True):
            port = free_port()
            rig.forget_counters()
            host = "::1" if "-6" in args else "127.0.0.1"
            s = rig.start(["iperf3", "-s", "-1", "-p", port], label="server", witness=witness).listening(port)
            # by bytes: with a time limit the last bytes of a reversed stream stay unread by design
            amount = ["-n", "100M"] if witness or "--bidir" not in args else ["-t", "2"]
            out = rig.run(["iperf3", "-c", host, "-p", port, "-J", *amount, *args], label="client", witness=witness, seconds=60)
            result = json.loads(out)
            check("error" not in result, f"iperf3 {args}: {result.get('error')}")
            end = result["end"]
            check(end["sum_received"]["bytes"] > 0, f"iperf3 {args}: nothing received")
            print(f"iperf3 {args} {'with witness ' if witness else ''}{end['sum_received']['bits_per_second'] / 8e9:.2f} GB/s")
            s.wait(20)
            # what a stream sends before its claim is confirmed, as much as TCP's buffers take, goes by TCP
            rig.share("client", least=0.9, what=f"iperf3 {args}, client")
            rig.share("server", least=0.9, what=f"iperf3 {args}, server")
            if witness:
                rig.same("client", "server", unread_ok=True)


main(test)
