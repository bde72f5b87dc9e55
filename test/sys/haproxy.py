#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""haproxy.py - haproxy in front of nginx: as a proxy of HTTP, of TCP, and of TCP with splice(); reloaded under load, its listeners passed on"""

import os
import re
import signal
import time

from syslib import PLAIN, check, free_port, main, need, random_file, sha

HAPROXY = """
global
    nbthread 2
    stats socket %(dir)s/admin level admin expose-fd listeners
    %(user)s
    hard-stop-after 20s
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
    # a server that ends a kept connection just as a request comes is asked again
    retry-on conn-failure empty-response
    retries 3
listen http
    mode http
    bind 127.0.0.1:%(http)d
    server web 127.0.0.1:%(web)d
listen tcp
    mode tcp
    bind 127.0.0.1:%(tcp)d
    server web 127.0.0.1:%(web)d
# what comes out of a pipe goes into TCP: splice() hands the direction over
listen splice
    mode tcp
    option splice-request
    option splice-response
    bind 127.0.0.1:%(splice)d
    server web 127.0.0.1:%(web)d
"""
NGINX = """
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
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    server { listen 127.0.0.1:%(web)d; root %(dir)s/www; }
}
"""
SIZES = {"1": 1, "100": 100, "1k": 1024, "64k": 65536, "1m": 1 << 20, "50m": 50 << 20}


def test(rig):
    need("haproxy", "nginx", "curl", "wrk")
    d = rig.path("proxy")
    os.makedirs(d + "/www")
    os.chmod(d, 0o777)
    hashes = {n: random_file(f"{d}/www/{n}", size) for n, size in SIZES.items()}
    v = {"dir": d, "web": free_port(), "http": free_port(), "tcp": free_port(), "splice": free_port()}
    root = not os.geteuid()
    for name, text, user in (("haproxy.conf", HAPROXY, "user www-data\n    group www-data"), ("nginx.conf", NGINX, "user www-data;")):
        with open(f"{d}/{name}", "w") as f:
            f.write(text % {**v, "user": user if root else ""})
    web = rig.start(["nginx", "-c", d + "/nginx.conf", "-e", d + "/error.log"], label="nginx").listening(v["web"])
    proxy = rig.start(["haproxy", "-W", "-db", "-f", d + "/haproxy.conf"], label="haproxy").listening(v["http"]).listening(v["splice"])
    for mode in ("http", "tcp", "splice"):
        tail = "-splice" if mode == "splice" else ""
        args, names = [], [*SIZES] * 2
        for i, n in enumerate(names):
            args += ["-o", rig.path(f"got{i}"), f"http://127.0.0.1:{v[mode]}/{n}"]
        rig.run(["curl", "-sS", "--fail", *args], label="curl" + tail)
        for i, n in enumerate(names):
            check(sha(rig.path(f"got{i}")) == hashes[n], f"{n} differs as it came through haproxy ({mode})")
        for headers in ([], ["-H", "Connection: close"]):
            out = rig.run(["wrk", "-t2", "-c16", "-d1s", *headers, f"http://127.0.0.1:{v[mode]}/1k"], label=("wrk-close" if headers else "wrk") + tail)
            m = re.search(r"(\d+) requests in", out)
            check(m and int(m.group(1)) > 100, out)
            check("Socket errors" not in out and "Non-2xx" not in out, out)
            print(f"wrk, {mode}, {'a connection a request' if headers else 'keep-alive'}: {m.group(1)} requests")
    rig.share("curl")
    rig.share("wrk")
    rig.share("wrk-close", least=None)
    rig.share("curl-splice", least=None)
    rig.share("wrk-splice", least=None)
    # reloads: the old worker hands its listeners to the new one and finishes what it has
    slow = rig.start(["curl", "-sS", "--fail", "--limit-rate", "20M", "-o", rig.path("slow"), f"http://127.0.0.1:{v['tcp']}/50m"], label="slow")
    wrk = rig.start(["wrk", "-t2", "-c16", "-d4s", "-H", "Connection: close", f"http://127.0.0.1:{v['http']}/1k"], label="wrk-reload")
    for _ in range(4):
        time.sleep(0.5)
        before = proxy.text().count("Loading success")
        proxy.p.send_signal(signal.SIGUSR2)
        end = time.monotonic() + 10
        while proxy.text().count("Loading success") == before:
            check(time.monotonic() < end, "haproxy does not reload:\n" + proxy.text()[-1000:])
            time.sleep(0.02)
    out = wrk.wait(30).text()
    check("Socket errors" not in out and "Non-2xx" not in out, out)
    slow.wait(30)
    check(sha(rig.path("slow")) == hashes["50m"], "the file that was on its way across the reloads differs")
    proxy.stop(signal.SIGUSR1, 25)
    web.stop(signal.SIGQUIT, 20)
    rig.nothing_left("haproxy and nginx")
    # its sender fills the buffers of TCP, some 13 MB, if the claim is answered late
    rig.share("slow", least=0.5, what="curl, slow, across the reloads")
    rig.share("haproxy", least=None, what="haproxy, both its sides")
    rig.share("nginx", least=None, what="nginx")
    if not PLAIN:
        with open(d + "/error.log") as f:
            bad = [x for x in f if re.search(r"\[(alert|crit|emerg|error)\]", x)]
        check(not bad, "nginx logged errors:\n" + "".join(bad[:5]))


main(test)
