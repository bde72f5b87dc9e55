#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""redis_fork.py - redis that forks for BGSAVE and BGREWRITEAOF under load, and again for a replica: nothing is lost meanwhile

The client compares every answer; what was saved is loaded by another server, which must have the same digest."""

import re
import time

from syslib import check, free_port, main, need

CLIENT = r'''
import os, random, socket, sys
port, stop = int(sys.argv[1]), sys.argv[2]
rnd = random.Random(int(os.environ.get("T_SEED", "1")))
s = socket.create_connection(("127.0.0.1", port))
f = s.makefile("rb")
def ask(*a):
    a = [x if isinstance(x, bytes) else str(x).encode() for x in a]
    s.sendall(b"*%d\r\n" % len(a) + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in a))
    line = f.readline()
    if line[:1] != b"$":
        return line.strip()
    n = int(line[1:])
    return f.read(n + 2)[:-2] if n >= 0 else None
have, n = {}, 0
while n % 10 or not os.path.exists(stop):
    k = b"key%d" % rnd.randrange(400)
    if rnd.random() < 0.6:
        have[k] = rnd.randbytes(rnd.choice((1, 50, 117, 5000, 60000)))
        assert ask("SET", k, have[k]) == b"+OK"
    else:
        assert ask("GET", k) == have.get(k), k
    n += 1
for k, v in have.items():
    assert ask("GET", k) == v, k
print("compared", n)
'''


def test(rig):
    need("redis-server", "redis-benchmark", "redis-cli")
    port, copy, d = free_port(), free_port(), rig.dir

    def cli(at, *args):
        return rig.run(["redis-cli", "-h", "127.0.0.1", "-p", at, *args], label="cli").strip()

    def value(at, key):
        return re.search(rf"^{key}:(\S*)", cli(at, "info"), re.M).group(1)

    def until(ok, what, seconds=20):
        end = time.monotonic() + seconds
        while not ok():
            check(time.monotonic() < end, what)
            time.sleep(0.05)

    def server(at, label, file, *args):
        p = rig.start(["redis-server", "--port", at, "--bind", "127.0.0.1", "--save", "", "--dir", d, "--dbfilename", file,
                       "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0", *args], label=label).listening(at)
        until(lambda: value(at, "loading") == "0", f"{label} does not come up")
        return p

    s = server(port, "redis", "a.rdb")
    stop = f"{d}/stop"
    client = rig.start(["python3", "-c", CLIENT, port, stop], label="client")
    load = rig.start(["redis-benchmark", "-p", port, "-q", "-c", 20, "-n", 120000, "-r", 5000, "-d", 500, "-t", "set,get,lpush"], label="bench")
    saves = 0
    while saves < 7:
        check(client.p.poll() is None, client.text())
        if value(port, "rdb_bgsave_in_progress") == "0" and value(port, "aof_rewrite_in_progress") == "0":
            out = cli(port, "bgsave" if saves % 3 else "bgrewriteaof")
            check("started" in out, out)
            saves += 1
        time.sleep(0.05)
    with open(stop, "w"):
        pass
    check("compared" in client.wait(20).text(), client.text())
    # a replica: a child of the server writes the data to the replica's socket itself
    r = server(copy, "replica", "b.rdb", "--replicaof", f"127.0.0.1 {port}")
    load.wait(60)
    until(lambda: value(copy, "master_link_status") == "up", "the replica does not come up")
    until(lambda: value(copy, "master_repl_offset") == value(port, "master_repl_offset"), "the replica does not catch up")
    digest = cli(port, "debug", "digest")
    check(re.fullmatch("[0-9a-f]{40}", digest), digest)
    check(cli(copy, "debug", "digest") == digest, "the replica has other data")
    check(value(port, "rdb_last_bgsave_status") == "ok" and value(port, "aof_last_bgrewrite_status") == "ok", "a save failed")
    check("started" in cli(port, "bgsave"), "bgsave")
    until(lambda: value(port, "rdb_bgsave_in_progress") == "0", "the last save does not end")
    r.stop()
    s.stop()
    s = server(port, "again", "a.rdb")
    check(cli(port, "debug", "digest") == digest, "what was loaded again is other data")
    print(f"{saves} saves under load; {cli(port, 'dbsize')} keys, the same in the server, its replica and what it saved")
    s.stop()
    rig.nothing_left("redis")
    rig.share("client", what="the comparing client")
    rig.share("bench", what="redis-benchmark")
    rig.share("redis", least=None, what="redis, with its children")
    rig.share("replica", least=None, what="the replica")


main(test)
