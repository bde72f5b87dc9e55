#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""pgbench.py - PostgreSQL on TCP with 8 clients; the sums of the balances agree afterwards; server and client of other users"""

import glob
import os
import re
import signal

from syslib import check, free_port, main, need, skip


def test(rig):
    need("setpriv", root=True)
    bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not bins or not os.path.exists(bins[-1] + "/pgbench"):
        skip("postgresql is not installed")
    b = bins[-1]
    port, data = free_port(), rig.path("pg")
    os.mkdir(data)
    os.chmod(data, 0o700)
    os.system(f"chown postgres:postgres {data}")
    rig.run([b + "/initdb", "-D", data + "/d", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"], user="postgres", ours=False, seconds=60)
    s = rig.start([b + "/postgres", "-D", data + "/d", "-p", port, "-h", "127.0.0.1", "-k", "", "-c", "fsync=off", "-c", "shared_buffers=32MB"],
                  label="postgres", user="postgres").listening(port)
    conn = ["-h", "127.0.0.1", "-p", port, "-U", "postgres"]

    def psql(q):
        return rig.run([b + "/psql", *conn, "-X", "-A", "-t", "-c", q, "postgres"], label="psql").strip()

    rig.run([b + "/pgbench", *conn, "-i", "-q", "-s", "2", "postgres"], label="init", seconds=60)
    rig.share("init", what="pgbench -i")
    # -n: without the clearing of the history that the sums need
    for args in (["-n", "-c", "8", "-j", "2", "-T", "4"], ["-n", "-S", "-c", "8", "-j", "2", "-T", "3"], ["-n", "-S", "-M", "prepared", "-c", "1", "-T", "2"]):
        out = rig.run([b + "/pgbench", *conn, *args, "postgres"], label="pgbench", seconds=60)
        m = re.search(r"number of transactions actually processed: (\d+)", out)
        check(m and int(m.group(1)) > 100, f"pgbench {args}:\n{out[-1500:]}")
        check(not re.search(r"aborted|ERROR|FATAL", out), f"pgbench {args}:\n{out[-1500:]}")
        print(f"pgbench {' '.join(args)}: {m.group(1)} transactions")
    rig.share("pgbench")
    sums = [psql(f"select sum({c}) from {t}") for c, t in
            (("abalance", "pgbench_accounts"), ("bbalance", "pgbench_branches"), ("tbalance", "pgbench_tellers"), ("delta", "pgbench_history"))]
    check(len(set(sums)) == 1 and re.fullmatch(r"-?\d+", sums[0]), f"the balances do not agree: {sums}")
    big = psql("select md5(string_agg(x::text, ',')), string_agg(x::text, ',') from generate_series(1, 200000) x")
    import hashlib
    digest, text = big.split("|")
    check(hashlib.md5(text.encode()).hexdigest() == digest, "a result of 1.3 MB came differently than the server hashed it")
    rig.share("psql", least=None, what="psql, short exchanges")
    s.stop(signal.SIGINT)
    rig.nothing_left("PostgreSQL and its clients")
    rig.share("postgres", what="postgres, all backends")


main(test)
