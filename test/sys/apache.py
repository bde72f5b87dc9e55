#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""apache.py - Apache with its prefork module: files, uploads through CGI, a graceful restart under load; children come and go"""

import glob
import os
import re
import signal
import time

from syslib import PLAIN, check, free_port, main, need, random_file, sha

CONF = """
ServerRoot %(dir)s
Listen 127.0.0.1:%(port)d
ServerName localhost
PidFile %(dir)s/pid
Mutex file:%(dir)s default
ErrorLog %(dir)s/error.log
LogLevel notice
%(modules)s
%(user)s
StartServers 12
MinSpareServers 8
MaxSpareServers 12
MaxRequestWorkers 64
# each child ends after so many connections
MaxConnectionsPerChild 40
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot %(dir)s/www
ScriptAlias /cgi/ %(dir)s/cgi/
<Directory %(dir)s>
    Require all granted
</Directory>
"""
# What was uploaded comes back, in a process that Apache starts with the connection open; all of it is read first.
CGI = """#!/bin/sh
body=$(mktemp) && cat >"$body"
printf 'Content-Type: application/octet-stream\\r\\n\\r\\n'
cat "$body"
rm "$body"
"""
SIZES = {"1": 1, "1k": 1024, "64k": 65536, "1m": 1 << 20, "50m": 50 << 20}


def test(rig):
    need("apache2", "curl", "wrk")
    modules = os.path.dirname(sorted(glob.glob("/usr/lib/apache2/modules/mod_mpm_prefork.so"))[0])
    d, port = rig.path("apache"), free_port()
    for sub in ("www", "cgi"):
        os.makedirs(f"{d}/{sub}")
    os.chmod(d, 0o777)
    hashes = {n: random_file(f"{d}/www/{n}", size) for n, size in SIZES.items()}
    with open(d + "/cgi/back", "w") as f:
        f.write(CGI)
    os.chmod(d + "/cgi/back", 0o755)
    with open(d + "/conf", "w") as f:
        f.write(CONF % {"dir": d, "port": port, "user": "User www-data\nGroup www-data" if not os.geteuid() else "",
                        "modules": "\n".join(f"LoadModule {m}_module {modules}/mod_{m}.so" for m in ("mpm_prefork", "authz_core", "alias", "cgi"))})
    s = rig.start(["apache2", "-f", d + "/conf", "-DFOREGROUND"], label="apache").listening(port)
    url = f"http://127.0.0.1:{port}"

    def get(names, label):
        args = []
        for i, n in enumerate(names):
            args += ["-o", rig.path(f"got{i}"), f"{url}/{n}"]
        rig.run(["curl", "-sS", "--fail", *args], label=label)
        for i, n in enumerate(names):
            check(sha(rig.path(f"got{i}")) == hashes[n], f"{n} differs as {label} got it")

    for n in SIZES:
        get([n], "curl-one")
    get([n for n in SIZES] * 3, "curl")
    up = random_file(rig.path("up"), 20 << 20)
    rig.run(["curl", "-sS", "--fail", "-H", "Content-Type: application/octet-stream", "--data-binary", "@" + rig.path("up"),
             "-o", rig.path("back"), f"{url}/cgi/back"], label="curl")
    check(sha(rig.path("back")) == up, "what came back from the CGI program differs")
    rig.share("curl", what="curl, files and an upload over kept connections")
    rig.share("curl-one", least=None, what="curl, a connection each")

    def wrk(label, *args):
        out = rig.run(["wrk", "-t2", "-c8", "-d3s", *args, f"{url}/1k"], label=label)
        m = re.search(r"(\d+) requests in", out)
        check(m and int(m.group(1)) > 100, out)
        check("Socket errors" not in out and "Non-2xx" not in out, out)
        print(f"{label}: {m.group(1)} requests")

    wrk("wrk")
    rig.share("wrk")
    wrk("wrk-close", "-H", "Connection: close")
    rig.share("wrk-close", least=None)
    # a graceful restart while a file is on its way: the child that sends it stays until it is through
    p = rig.start(["curl", "-sS", "--fail", "--limit-rate", "40M", "-o", rig.path("slow"), f"{url}/50m"], label="curl-slow")
    time.sleep(0.3)
    s.p.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    get(["64k"], "curl-one")
    p.wait(30)
    check(sha(rig.path("slow")) == hashes["50m"], "the file that was on its way at the restart differs")
    # its sender fills the buffers of TCP, some 13 MB, if the claim is answered late
    rig.share("curl-slow", least=0.5, what="curl, slow, across the restart")
    s.stop(signal.SIGWINCH, 20)
    rig.nothing_left("Apache")
    rig.share("apache", least=None, what="apache, all its children")
    if not PLAIN:
        with open(d + "/error.log") as f:
            bad = [x for x in f if re.search(r":(error|crit|alert|emerg)\]|exit signal", x)]
        check(not bad, "Apache logged errors:\n" + "".join(bad[:5]))


main(test)
