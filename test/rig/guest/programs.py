#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""programs.py - in both guests: redis, iperf3, nginx and curl as they are, servers in b, clients in a, through the bridge

What arrives is compared with what was sent.  Afterwards the counters of both guests must show the bytes in the window,
and none on TCP.
RIG_SCALE=N: N times as much."""

import glob
import hashlib
import json
import os
import random
import shutil

from guestlib import ADDRESS, BUILD, ME, OUT, PLAIN, WORK, Checks, Host, expect, kernel_is_fine, on_wire, together

SCALE = int(os.environ.get("RIG_SCALE", "1"))
SERVER = ADDRESS["b"]
REDIS, IPERF, NGINX = 7000, 7100, 7200

# Sets and gets values of all kinds of sizes, then asks for all at once.
REDIS_CLIENT = r"""
import random, socket, sys
host, port, scale = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.create_connection((host, port), timeout=60)
f = s.makefile("rb")
def cmd(*a):
    return b"*%d\r\n" % len(a) + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in a)
def got(k, v):
    assert f.readline() == b"$%d\r\n" % len(v), k
    assert f.read(len(v) + 2) == v + b"\r\n", "value of %r differs" % k
rnd = random.Random(1)
sizes = [1, 54, 55, 116, 117, 1000, 16384, 16385, 60000] + [rnd.randrange(1, 20000) for _ in range(20 * scale)]
values = {b"k%d" % i: rnd.randbytes(n) for i, n in enumerate(sizes)}
for k, v in values.items():
    s.sendall(cmd(b"SET", k, v))
    assert f.readline() == b"+OK\r\n"
for k, v in values.items():
    s.sendall(cmd(b"GET", k))
    got(k, v)
s.sendall(b"".join(cmd(b"GET", k) for k in values))
for k, v in values.items():
    got(k, v)
print("all", len(values), "values,", sum(sizes), "bytes, came back as they were set")
"""


def content(name, size):
    return random.Random(name).randbytes(size)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def redis(host):
    if ME == "b":
        server = host.start(["redis-server", "--port", REDIS, "--bind", SERVER, "--protected-mode", "no", "--save", "",
                             "--appendonly", "no"], "redis").listening(REDIS)
        together("redis")
        together("redis-done", 120)
        server.stop()
        return
    together("redis")
    bench = host.run(["redis-benchmark", "-h", SERVER, "-p", REDIS, "-q", "-c", 3, "-n", 400 * SCALE, "-d", 64, "-t", "set,get"], 60)
    print(bench.replace("\r", "\n").strip().splitlines()[-1])
    expect("GET" in bench and "requests per second" in bench and "rror" not in bench, bench)
    out = host.run(["python3", "-c", REDIS_CLIENT, SERVER, REDIS, SCALE], 60, label="client")
    print(out.strip())
    expect("came back as they were set" in out, out)
    together("redis-done", 120)


def flows(label, guest):
    """What the witness in iperf3 has seen: {(local, remote): [bytes out, hash, bytes in, hash]}"""
    seen = {}
    for path in glob.glob(f"{OUT}/{label}.{guest}.*"):
        with open(path) as f:
            for line in f:
                local, remote, _, sent, sent_hash, _, got, got_hash = line.split()
                seen[local, remote] = [int(sent), sent_hash, int(got), got_hash]
    return seen


def iperf3(host):
    """It cannot tell what came (with -F it cannot either: what it could not write at once it writes wrongly, on TCP as
    well), so the witness of test/sys is in both.  Reversed, all arrives; forward the server stops reading when it is
    told that all was sent."""
    size = 6000000 * SCALE
    shutil.copy(f"{BUILD}/test/sys/witness.so", host.bin)
    for turn, sender in enumerate("ba"):
        port, label = IPERF + turn, f"iperf{turn}"
        wrap = ["env", f"LD_PRELOAD={host.bin}/witness.so" + ("" if PLAIN else f":{host.bin}/libntbsock.so"),
                f"WITNESS={OUT}/{label}.{ME}.%p"]
        if ME == "b":
            server = host.start([*wrap, "iperf3", "-s", "-1", "-p", port], label).listening(port)
            together(label)
            server.wait(90)
        else:
            together(label)
            out = host.run([*wrap, "iperf3", "-c", SERVER, "-p", port, "-J", "-n", size, *(["-R"] if sender == "b" else [])],
                           90, label=label)
            result = json.loads(out[out.index("{"):])
            expect("error" not in result, f"iperf3: {result.get('error')}")
            print(f"iperf3 {'b to a' if sender == 'b' else 'a to b'}: {result['end']['sum_sent']['bytes']} bytes in "
                  f"{result['end']['sum_sent']['seconds']:.2f} s")
        together(label + "-done", 120)
        one, other = flows(label, sender), flows(label, "a" if sender == "b" else "b")
        total = 0
        for (local, remote), (sent, sent_hash, _, _) in one.items():
            _, _, got, got_hash = other[remote, local]
            expect(got == sent or (sender == "a" and 0 < got < sent), f"{sent} bytes were sent, {got} came")
            expect(got != sent or got_hash == sent_hash, f"{sent} bytes came, and others than were sent")
            total += got
        expect(total >= (size if sender == "b" else 1), f"{total} bytes came")


NGINX_CONF = """
worker_processes 1;
daemon off;
user root;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    sendfile on;
    server {{ listen {address}:{port}; root {dir}/www; }}
}}
"""
SIZES = (1, 100, 1024, 16384, 65536, 300000)


def nginx(host):
    names = [(f"{size}", size * (SCALE if size > 65536 else 1)) for size in SIZES]
    if ME == "b":
        d = f"{WORK}/nginx"
        os.makedirs(d + "/www")
        for name, size in names:
            write(f"{d}/www/{name}", content(name, size))
        write(d + "/conf", NGINX_CONF.format(dir=d, address=SERVER, port=NGINX).encode())
        server = host.start(["nginx", "-c", d + "/conf", "-e", d + "/error.log"], "nginx").listening(NGINX)
        together("nginx")
        together("nginx-done", 120)
        server.stop()
        with open(d + "/error.log") as f:
            bad = [x for x in f if any(w in x for w in ("[alert]", "[crit]", "[emerg]", "[error]"))]
        expect(not bad, "".join(bad[:5]))
        return
    together("nginx")

    def fetch(label, what):
        args = [x for i, (name, _) in enumerate(what) for x in ("-o", f"{WORK}/got.{i}", f"http://{SERVER}:{NGINX}/{name}")]
        host.run(["curl", "-sS", "--fail", "--max-time", 60, *args], 70, label=label)
        for i, (name, size) in enumerate(what):
            with open(f"{WORK}/got.{i}", "rb") as f:
                got = f.read()
            expect(hashlib.sha256(got).digest() == hashlib.sha256(content(name, size)).digest(),
                   f"{name} differs: {len(got)} bytes of {size}")
            os.unlink(f"{WORK}/got.{i}")

    # one connection
    fetch("curl", names[:1] * 40 + names * 3)
    together("nginx-done", 120)


def counted(host, what, program):
    """Runs it; then both guests say what has gone which way."""
    wire = on_wire()
    program(host)
    wire = on_wire() - wire
    if PLAIN:
        return
    n = host.counters()
    ring = n["tx"] + n["rx"]
    print(f"{what}: ring {n['tx']} out, {n['rx']} in; TCP {n['tcp']}; window {n['lines']} lines, {n['bulk_bytes']} bytes in bulk; "
          f"eth0 {wire} out; {n['accelerated']} connections moved, {n['fallback']} did not, {n['processes']} processes", flush=True)
    expect(n["accelerated"] and not n["fallback"], f"{what}: connections stayed on TCP")
    expect(n["lines"] * 64 + n["bulk_bytes"] >= n["tx"], f"{what}: the window has seen less than was sent")
    expect(ring > 100000 and not n["tcp"], f"{what}: {n['tcp']} bytes on TCP, {ring} on the ring")
    expect(wire < 100000, f"{what}: {wire} bytes have left by eth0, {ring} were on the ring")


def main():
    check = Checks(4 if PLAIN else 7)
    host = Host()
    if not PLAIN:
        check("the port is vfio-pci's", host.take_port) or check.finish()
        together("bound")
        check("the brokers meet", host.start_broker) or check.finish()
    together("up")
    check("redis", counted, host, "redis", redis)
    check("iperf3", counted, host, "iperf3", iperf3)
    check("nginx and curl", counted, host, "nginx and curl", nginx)
    if not PLAIN:
        check("the broker ends when it is told to", lambda: host.broker.stop().wait(1))
    check("the kernel has nothing to complain of", kernel_is_fine)
    check.finish()


main()
