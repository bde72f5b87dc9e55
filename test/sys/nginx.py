#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 180
"""nginx.py - nginx with two workers serving 1 byte to 100 MB to curl and wrk, with keep-alive and without"""

import os
import re
import signal

from syslib import Failed, PLAIN, check, free_port, main, need, random_file, sha

CONF = """
worker_processes 2;
daemon off;
%(user)s
pid %(dir)s/nginx.pid;
error_log %(dir)s/error.log info;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy; fastcgi_temp_path %(dir)s/fcgi;
    uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
    sendfile %(sendfile)s;
    keepalive_requests 1000000;
    server { listen 127.0.0.1:%(port)d; listen [::1]:%(port)d; root %(dir)s/www; }
}
"""
SIZES = {"1": 1, "100": 100, "1k": 1024, "16k": 16384, "64k": 65536, "1m": 1 << 20, "10m": 10 << 20, "100m": 100 * 1000 * 1000}


def test(rig):
    need("nginx", "curl", "wrk")
    d = rig.path("nginx")
    os.makedirs(d + "/www")
    hashes = {n: random_file(f"{d}/www/{n}", size) for n, size in SIZES.items()}
    user = ""
    if not os.geteuid():
        user = "user www-data;"     # workers of another user than the master and the clients
        os.chmod(d, 0o777)
    for sendfile in ("on", "off"):
        port = free_port()
        rig.forget_counters()
        with open(d + "/conf", "w") as f:
            f.write(CONF % {"dir": d, "user": user, "sendfile": sendfile, "port": port})
        s = rig.start(["nginx", "-c", d + "/conf", "-e", d + "/error.log"], label="nginx").listening(port)

        def fetch(url, name, label="curl"):
            out = rig.path("got")
            rig.run(["curl", "-sS", "--fail", "-o", out, url], label=label)
            check(sha(out) == hashes[name], f"{url}: what curl got differs from the file")

        # one connection each; the share of a connection with a single short exchange is only reported
        for host in ("127.0.0.1", "[::1]"):
            for name in SIZES:
                rig_label = "curl-big" if SIZES[name] >= 10 << 20 else "curl-small"
                fetch(f"http://{host}:{port}/{name}", name, rig_label)
        rig.share("curl-small", least=None, what="curl, one short exchange a connection")
        # what nginx sends before curl's turn to confirm the claim goes by TCP: 4 MB of a connection at most
        rig.share("curl-big", least=0.9, what=f"curl, 10 and 100 MB, sendfile {sendfile}")
        # keep-alive: many files over one connection
        args, names = [], [n for n in SIZES if n != "100m"] * 4
        for i, n in enumerate(names):
            args += ["-o", rig.path(f"many{i}"), f"http://127.0.0.1:{port}/{n}"]
        rig.run(["curl", "-sS", "--fail", *args], label="curl-keep")
        for i, n in enumerate(names):
            check(sha(rig.path(f"many{i}")) == hashes[n], f"keep-alive, file {i} ({n}) differs")
            os.unlink(rig.path(f"many{i}"))
        rig.share("curl-keep", what="curl, keep-alive")

        for name, headers in (("1k", []), ("1m", []), ("1k", ["-H", "Connection: close"])):
            out = rig.run(["wrk", "-t1", "-c16", "-d2s", *headers, f"http://127.0.0.1:{port}/{name}"],
                          label="wrk-close" if headers else "wrk")
            m = re.search(r"(\d+) requests in", out)
            check(m and int(m.group(1)) > 50, f"wrk: {out}")
            check("Socket errors" not in out and "Non-2xx" not in out, f"wrk: {out}")
            print(f"wrk {name} {'close' if headers else 'keep-alive'}: {m.group(1)} requests")
        rig.share("wrk", what="wrk, keep-alive")
        rig.share("wrk-close", least=None, what="wrk, a connection a request")
        s.stop(signal.SIGQUIT, 20)
        rig.nothing_left("nginx")
        rig.share("nginx", least=None, what="nginx, all of it")
        if not PLAIN:
            with open(d + "/error.log") as f:
                bad = [x for x in f if re.search(r"\[(alert|crit|emerg|error)\]", x)]
            if bad:
                raise Failed("nginx logged errors:\n" + "".join(bad[:5]))


main(test)
