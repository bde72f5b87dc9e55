#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""nginx_reload.py - nginx reloaded 20 times under load: with a connection a request none fails, with keep-alive no more than on TCP"""

import os
import re
import signal
import time

from syslib import PLAIN, check, free_port, main, need, random_file, sha

CONF = """
worker_processes 2;
worker_shutdown_timeout 30s;
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
    server { listen 127.0.0.1:%(port)d; root %(dir)s/www; }
}
"""
RELOADS = 20
# Each answer compared; a server that is reloaded closes kept connections when they are idle, so their client opens another one.
CLIENT = r'''
import hashlib, http.client, os, sys
port, want = int(sys.argv[1]), sys.argv[2]
done = again = 0
c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
while not os.path.exists(sys.argv[3]):
    try:
        c.request("GET", "/64k")
        r = c.getresponse()
        body = r.read()
    except (ConnectionError, http.client.BadStatusLine):
        c.close()
        again += 1
        continue
    assert r.status == 200 and hashlib.sha256(body).hexdigest() == want, "another body"
    done += 1
print("compared", done, "again", again)
'''


def worker_pids(master):
    with open(f"/proc/{master}/task/{master}/children") as f:
        return set(f.read().split())


def load(rig, ours, ways):
    """What wrk says of 20 reloads, one load for each way of connecting: {way: (errors, the same in words)}."""
    label = "ring" if ours else "tcp"
    d, port = rig.path(label), free_port()
    os.makedirs(d + "/www")
    os.chmod(d, 0o777)
    random_file(d + "/www/1k", 1024)
    want = random_file(d + "/www/64k", 65536)
    big = random_file(d + "/www/big", 40 << 20)
    with open(d + "/conf", "w") as f:
        f.write(CONF % {"dir": d, "user": "user www-data;" if not os.geteuid() else "", "port": port})
    nginx = ["nginx", "-c", d + "/conf", "-e", d + "/error.log"]
    s = rig.start(nginx, label=label + "-nginx", ours=ours).listening(port)
    out = {}
    for way in ways:
        headers = ["-H", "Connection: close"] if way == "a connection a request" else []
        stop = rig.path(f"stop-{label}-{len(out)}")
        wrk = rig.start(["wrk", "-t2", "-c16", "-d5s", *headers, f"http://127.0.0.1:{port}/1k"], label=label + "-wrk", ours=ours)
        client = rig.start(["python3", "-c", CLIENT, port, want, stop], label=label + "-client", ours=ours)
        # a file that is on its way across all of them: its worker is not to go before it is through
        slow = rig.start(["curl", "-sS", "--fail", "--limit-rate", "9M", "-o", rig.path("slow"), f"http://127.0.0.1:{port}/big"],
                         label=label + "-slow", ours=ours)
        time.sleep(0.5)
        for _ in range(RELOADS):
            before = worker_pids(s.pid)
            rig.run([*nginx, "-s", "reload"], label=label + "-reload", ours=ours)
            end = time.monotonic() + 10
            while len(worker_pids(s.pid) - before) < 2:     # the new ones are there; the old ones may take their time
                check(time.monotonic() < end, "nginx does not start new workers")
                time.sleep(0.01)
            time.sleep(0.1)
        check(wrk.p.poll() is None, "wrk was over before the last reload")
        text = wrk.wait(30).text()
        open(stop, "w").close()
        said = client.wait(30).text()
        check("compared" in said, said)
        slow.wait(40)
        check(sha(rig.path("slow")) == big, "the file that was on its way across the reloads differs")
        m = re.search(r"(\d+) requests in", text)
        check(m and int(m.group(1)) > 500, text)
        e = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        errors = sum(int(x) for x in e.groups()) if e else 0
        check("Non-2xx" not in text, text)
        out[way] = (errors, e.group(0) if e else "no errors")
        print(f"{label}, {way}: {m.group(1)} requests, {out[way][1]}; {said.strip()}")
    s.stop(signal.SIGQUIT, 40)
    return out


def test(rig):
    need("nginx", "curl", "wrk")
    ring = load(rig, True, ("a connection a request", "keep-alive"))
    rig.share("ring-nginx", least=None, what="nginx, all its workers")
    rig.share("ring-wrk", least=None)
    rig.share("ring-client", least=0.9, what="the comparing client, to new processes each time")
    # its sender fills the buffers of TCP, some 13 MB, if the claim is answered late
    rig.share("ring-slow", least=0.5, what="curl, slow, across the reloads")
    check(not ring["a connection a request"][0], f"with a connection a request: {ring['a connection a request'][1]}")
    if not PLAIN:
        # a request may meet a server that closes its kept connection: as often as on TCP, give or take what runs differ
        tcp = load(rig, False, ("keep-alive",))
        check(ring["keep-alive"][0] <= tcp["keep-alive"][0] + 32, f"with keep-alive: {ring['keep-alive'][1]}; on TCP: {tcp['keep-alive'][1]}")
    rig.nothing_left("nginx")


main(test)
