#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""phpfpm.py - PHP-FPM on TCP behind nginx: what is uploaded comes back, over kept connections between the two and new ones"""

import glob
import hashlib
import os
import re
import signal

from syslib import PLAIN, check, free_port, main, need, random_file, sha, skip

NGINX = """
worker_processes 2;
daemon off;
%(user)s
pid %(dir)s/nginx.pid;
error_log %(dir)s/error.log info;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy; fastcgi_temp_path %(dir)s/fcgi;
    uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
    client_max_body_size 100m;
    keepalive_requests 1000000;
    upstream php { server 127.0.0.1:%(fpm)d; keepalive 8; }
    server {
        listen 127.0.0.1:%(port)d;
        fastcgi_param SCRIPT_FILENAME %(dir)s/app.php;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param CONTENT_LENGTH $content_length;
        fastcgi_param CONTENT_TYPE $content_type;
        fastcgi_param QUERY_STRING $query_string;
        location /kept { fastcgi_pass php; fastcgi_keep_conn on; }
        location /new { fastcgi_pass 127.0.0.1:%(fpm)d; }
    }
}
"""
FPM = """
[global]
error_log = %(dir)s/fpm.log
daemonize = no
pid = %(dir)s/fpm.pid
[www]
%(user)s
listen = 127.0.0.1:%(fpm)d
pm = dynamic
pm.max_children = 12
pm.start_servers = 2
pm.min_spare_servers = 1
pm.max_spare_servers = 4
pm.max_requests = 200
catch_workers_output = yes
"""
APP = r"""<?php
// the body back; without one, as many bytes as asked for, of a stream that begins with a seed
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    header('Content-Type: application/octet-stream');
    readfile('php://input');
} else {
    header('Content-Type: application/octet-stream');
    for ($left = (int)$_GET['n'], $block = hash('sha256', $_GET['seed'], true); $left > 0; $left -= 32) {
        echo substr($block, 0, min(32, $left));
        $block = hash('sha256', $block, true);
    }
}
"""


def stream(n, seed):
    h, block = hashlib.sha256(), hashlib.sha256(seed.encode()).digest()
    while n > 0:
        h.update(block[:min(32, n)])
        block = hashlib.sha256(block).digest()
        n -= 32
    return h.hexdigest()


def test(rig):
    need("nginx", "curl", "wrk")
    fpm = sorted(glob.glob("/usr/sbin/php-fpm*"))
    if not fpm:
        skip("php-fpm is not installed")
    d = rig.path("php")
    os.mkdir(d)
    os.chmod(d, 0o777)
    root = not os.geteuid()
    v = {"dir": d, "port": free_port(), "fpm": free_port()}
    for name, text, user in (("nginx.conf", NGINX, "user www-data;"), ("fpm.conf", FPM, "user = www-data\ngroup = www-data"), ("app.php", APP, "")):
        with open(f"{d}/{name}", "w") as f:
            f.write(text % {**v, "user": user if root else ""} if name != "app.php" else text)
    php = rig.start([fpm[-1], "-n", "-y", d + "/fpm.conf", "-d", "post_max_size=100M", "-d", "memory_limit=256M"],
                    label="fpm").listening(v["fpm"])
    web = rig.start(["nginx", "-c", d + "/nginx.conf", "-e", d + "/error.log"], label="nginx").listening(v["port"])
    for where in ("kept", "new"):
        url = f"http://127.0.0.1:{v['port']}/{where}"
        args = []
        for i, n in enumerate([1, 50, 117, 1000, 20000, 300000]):
            args += ["-o", rig.path(f"got{i}"), f"{url}?n={n}&seed={where}{i}"]
        rig.run(["curl", "-sS", "--fail", *args], label="curl-small")
        for i, n in enumerate([1, 50, 117, 1000, 20000, 300000]):
            check(sha(rig.path(f"got{i}")) == stream(n, f"{where}{i}"), f"{where}: {n} bytes of PHP differ")
        up = random_file(rig.path("up"), 30 << 20)
        rig.run(["curl", "-sS", "--fail", "-H", "Content-Type: application/octet-stream", "--data-binary", "@" + rig.path("up"),
                 "-o", rig.path("back"), url], label="curl")
        check(sha(rig.path("back")) == up, f"{where}: the upload came back differently")
        out = rig.run(["wrk", "-t2", "-c8", "-d2s", f"{url}?n=2000&seed=1"], label="wrk")
        m = re.search(r"(\d+) requests in", out)
        check(m and int(m.group(1)) > 50 and "Socket errors" not in out and "Non-2xx" not in out, out)
        print(f"wrk, {where} connections to PHP: {m.group(1)} requests")
    # 4 MB of each of the two may go by TCP before the claim is answered (ntbs_offer_hold())
    rig.share("curl", least=0.93)
    rig.share("wrk")
    web.stop(signal.SIGQUIT, 20)
    php.stop(signal.SIGQUIT, 20)
    rig.nothing_left("PHP-FPM and nginx")
    rig.share("nginx", least=None, what="nginx, both its sides")
    rig.share("fpm", least=None, what="PHP-FPM, all its children")
    if not PLAIN:
        with open(d + "/error.log") as f, open(d + "/fpm.log") as g:
            # a child that has served its 200 requests ends its kept connection as nginx sends the next one, which nginx repeats: as on TCP
            fair = re.compile(r"(prematurely closed connection|104: Connection reset by peer|32: Broken pipe).*/kept")
            bad = [x for x in f if re.search(r"\[(alert|crit|emerg|error)\]", x) and not fair.search(x)]
            bad += [x for x in g if re.search(r"ERROR|ALERT|exited on signal", x)]
        check(not bad, "nginx or PHP-FPM logged errors:\n" + "".join(bad[:5]))


main(test)
