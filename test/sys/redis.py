#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""redis.py - redis-server with redis-benchmark (-c 1, -c 50, -P 16), and with a client that compares what it gets"""

from syslib import PLAIN, check, free_port, main, need

CLIENT = r'''
import hashlib, os, random, socket, sys
rnd = random.Random(int(os.environ.get("T_SEED", "1")))
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
f = s.makefile("rb") if False else None
buf = b""
def take(n):
    global buf
    while len(buf) < n:
        got = s.recv(1 << 20)
        assert got, "EOF from the server"
        buf += got
    out, buf = buf[:n], buf[n:]
    return out
def line():
    global buf
    while b"\r\n" not in buf:
        got = s.recv(1 << 20)
        assert got, "EOF from the server"
        buf += got
    out, buf = buf.split(b"\r\n", 1)
    return out
def cmd(*a):
    return b"*%d\r\n" % len(a) + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in a)
sizes = [1, 54, 55, 116, 117, 1000, 16384, 16385, 100000, 3000000] + [rnd.randrange(1, 200000) for _ in range(60)]
values = {b"k%d" % i: rnd.randbytes(n) for i, n in enumerate(sizes)}
for k, v in values.items():
    s.sendall(cmd(b"SET", k, v))
    assert line() == b"+OK"
for k, v in values.items():
    s.sendall(cmd(b"GET", k))
    assert line() == b"$%d" % len(v), k
    assert take(len(v) + 2) == v + b"\r\n", "value of %r differs" % k
# everything at once, 70 requests before the first answer is read
s.sendall(b"".join(cmd(b"GET", k) for k in values if len(values[k]) < 20000))
for k, v in values.items():
    if len(v) < 20000:
        assert line() == b"$%d" % len(v) and take(len(v) + 2) == v + b"\r\n", k
print("all", len(values), "values came back as they were set")
'''


def test(rig):
    need("redis-server", "redis-benchmark")
    port = free_port()

    def server(witness=False):
        return rig.start(["redis-server", "--port", port, "--save", "", "--appendonly", "no", "--daemonize", "no", "--bind", "127.0.0.1"],
                         label="redis", witness=witness).listening(port)

    def bench(label, *args, witness=False):
        out = rig.run(["redis-benchmark", "-h", "127.0.0.1", "-p", port, "-q", "-t", "set,get,lpush,lrange_100", "-d", "64", *args],
                      label=label, witness=witness)
        check("requests per second" in out and "Error" not in out, f"redis-benchmark {args} said:\n{out}")

    for args in (["-c", 1, "-n", 4000], ["-c", 50, "-n", 40000], ["-c", 50, "-P", 16, "-n", 100000]):
        s = server()
        bench("bench", *args)
        s.stop()
        rig.share("bench", what=f"redis-benchmark {args}")
        rig.share("redis", what=f"redis-server for {args}")
        rig.forget_counters()

    s = server()
    out = rig.run(["python3", "-c", CLIENT, port], label="client")
    check("came back as they were set" in out, out)
    s.stop()
    rig.share("client")
    rig.share("redis")
    rig.forget_counters()

    # the witness: the benchmark leaves without reading the last answers of its other connections
    s = server(witness=True)
    bench("bench", "-c", 20, "-n", 10000, witness=True)
    s.stop()
    check(rig.same("bench", "redis", unread_ok=True) >= 20, "fewer connections than clients")
    if not PLAIN:
        rig.share("bench", what="with the witness")


main(test)
