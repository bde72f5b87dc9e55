# SPDX-License-Identifier: BSD-2-Clause
"""What must hold: the rows of the table, made from the figures of the rounds and from measurements made once.

A row is a ratio or a figure, a threshold and a verdict.  Rows 1 to 8 are ratios within a round, medians over the
rounds, near and far apart.  A row whose figures could not be had says so; it is never left out.
"""
import json
import os
import re
import subprocess
import time

from bench_run import Failed, have, median

BYTES = ("iperf3", "ftp")    # figures of these are bytes a second
HELD = 1000         # connections of rows 11 and 12


# ---- measured once

def fd_cost(r, quick):
    """Row 9: ns that the library adds to read() and write() on a descriptor that is not ours."""
    env = dict(r.env, LD_PRELOAD=r.lib)
    got = {"with": [], "without": []}
    for _ in range(5 if quick else 15):
        for how, e in (("without", r.env), ("with", env)):

            out = json.loads(r.output([r.limit_bin, "--tests", "fd", "--json", "--seconds", "0.05"], cpu=r.cpus[0],
                                      env=e))
            got[how].append({x["call"]: x["ns"] for x in out["results"]})
    return {call: median([a[call] - b[call] for a, b in zip(got["with"], got["without"])])
            for call in ("read", "write")}


def start_cost(r, quick):
    """Row 10: ms that the library adds to the start of a program without sockets."""
    env = dict(r.env, LD_PRELOAD=r.lib)

    def once(e):
        t = time.perf_counter()
        pid = os.posix_spawn("/bin/true", ["true"], e)
        _, status = os.waitpid(pid, 0)
        if status:
            raise Failed("/bin/true ended with wait status %#x under LD_PRELOAD" % status)
        return time.perf_counter() - t

    diff = []
    for _ in range(100 if quick else 400):
        a = once(r.env)
        diff.append((once(env) - a) * 1000)
    return median(diff)


def pss_kib(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M).group(1))


def cpu_ns(pid):
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
            total += int(f.read().split()[0])
    return total


def hold(r, transport, n, seconds):
    """Memory (KiB) and CPU time (ns in @seconds) of both ends and the broker, with @n idle connections."""
    cmd = [r.pingpong_bin, "both", "--hold", "--fds", str(n), "--seconds", str(seconds + 20)]
    with r.stats() as (env, _):
        p = r.start(r.ntb(cmd) if transport == "ntb" else cmd, env=env, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True)
        try:
            pids = []
            for line in p.stdout:
                pids += [int(x) for x in re.findall(r"pid (\d+)", line)]
                if line.startswith("holding"):
                    break
            else:
                raise Failed("pingpong --hold: " + (p.stderr.read().strip() or "ended without a word"))
            if transport == "ntb":
                pids.append(r.broker.pid)
            time.sleep(2)       # polling, offers and claims have ended by then: what is left is idling
            before = [cpu_ns(pid) for pid in pids]
            time.sleep(seconds)
            after = [cpu_ns(pid) for pid in pids]
            memory = sum(pss_kib(pid) for pid in pids)
        finally:
            r.end_group(p.pid)
            p.communicate()
    return {"memory_kib": memory, "cpu_ns": sum(after) - sum(before), "seconds": seconds}


def idle(r, quick):
    """Rows 11 and 12."""
    few, many = hold(r, "ntb", 1, 0.1), hold(r, "ntb", HELD, 3 if quick else 10)
    tcp = hold(r, "tcp", HELD, 0.1)
    return {"kib_each": (many["memory_kib"] - few["memory_kib"]) / (HELD - 1), "cpu_ns": many["cpu_ns"],
            "seconds": many["seconds"], "few_kib": few["memory_kib"], "many_kib": many["memory_kib"],
            "tcp_kib": tcp["memory_kib"]}


def syscalls(r, quick):
    """Row 15: system calls a message, from two runs of different length under strace."""
    if not have("strace"):
        raise Failed("strace is not installed")
    counts = (20000, 220000)

    def total(n):
        log = os.path.join(r.tmp, "strace")
        r.output(["strace", "-f", "-c", "-o", log] + r.ntb([r.pingpong_bin, "both", "--json", "--sizes", "1",
                                                            "--count", str(n)]), 120)
        with open(log) as f:
            lines = [line.split() for line in f if line.rstrip().endswith(" total")]
        if not lines:
            raise Failed("strace printed no sum")
        return int(lines[-1][3])

    # the least of some: whoever else runs on these CPUs makes the library sleep, and can only add
    return min(max(0, total(counts[1]) - total(counts[0])) / (2 * (counts[1] - counts[0]))
               for _ in range(2 if quick else 4))


SINGLES = (("row 9", fd_cost), ("row 10", start_cost), ("rows 11, 12", idle), ("row 15", syscalls))


# ---- the table

def ratio_rows(b):
    """(row, text, numerator, denominator, sense, threshold near, far); sense "<=": smaller is better."""
    slot1, slot2 = "limit.slot1.%d" % b.slots, "limit.slot2.%d" % b.slots
    bs = "limit.stream.best"
    return [
        ("1", "1 byte, blocking, against the one-line slot ring (%d slots)" % b.slots, "ntb.block.1", slot1, "<=", 2.5,
         2.5),
        ("2", "100 bytes against the two-line slot ring", "ntb.block.100", slot2, "<=", 2.5, 2.5),
        ("3", "1 byte: TCP blocking against ntbsock", "tcp.block.1", "ntb.block.1", ">=", 50, 30),
        ("3", "1 byte: TCP spinning against ntbsock", "tcp.spin.1", "ntb.block.1", ">=", 12, 8),
        ("4", "epoll, 1 descriptor, against blocking", "ntb.epoll1.1", "ntb.block.1", "<=", 2, 2),
        ("4", "epoll, 1,000 descriptors, against blocking", "ntb.epoll1000.1", "ntb.block.1", "<=", 3, 3),
        ("5", "both on one core, against TCP there", "ntb.onecore.1", "tcp.onecore.1", "<=", 1.2, 1.2),
        ("5", "the same beside 8 busy programs (median)", "ntb.busy.1", "tcp.busy.1", "<=", 1.2, 1.2),
        ("5", "the same beside 8 busy programs (mean)", "ntb.busy.1.mean", "tcp.busy.1.mean", "<=", 1.2, 1.2),
        ("6", "stream of 64 KiB writes against the best two copies", "ntb.stream.65536", bs, ">=", 0.6, 0.6),
        ("7", "stream of 64-byte writes against TCP", "ntb.stream.64", "tcp.stream.64", ">=", 5, 5),
        ("7", "stream of 1 KiB writes against TCP", "ntb.stream.1024", "tcp.stream.1024", ">=", 4, 4),
        ("7", "stream of 64 KiB writes against TCP", "ntb.stream.65536", "tcp.stream.65536", ">=", 2, 2),
        ("7", "stream of 1 MiB writes against TCP", "ntb.stream.1048576", "tcp.stream.1048576", ">=", 2, 2),
        ("8", "connections a second against TCP", "ntb.connrate", "tcp.connrate", ">=", 0.5, 0.5),
    ]


def verdict(value, sense, threshold):
    if value is None:
        return "not measured"
    return "PASS" if (value <= threshold if sense == "<=" else value >= threshold) else "FAIL"


def add_best(b):
    """The best two-copy bandwidth of each round through a ring of the product's size (8 MiB at most)."""
    ring = ".%d." % min(b.bulk, 8 << 20)
    for rnd in b.rounds:
        rates = [v for k, v in rnd.f.items() if k.startswith("limit.stream.") and ring in k]
        if rates:
            rnd.f["limit.stream.best"] = max(rates)


def rows(b):
    out = []

    def add(row, text, value, unit, sense, threshold, detail="", where=""):
        out.append({"row": row, "text": text, "where": where, "value": value, "unit": unit, "sense": sense,
                    "threshold": threshold, "verdict": verdict(value, sense, threshold), "detail": detail})

    add_best(b)
    if b.rounds:
        present = [d for d in ("near", "far") if any(r.distance == d for r in b.rounds)] or ["none"]
        for where in present:
            of = [r for r in b.rounds if r.distance == where]
            for row, text, num, den, sense, near, far in ratio_rows(b):
                pairs = [(r.f[num], r.f[den]) for r in of if r.f.get(num) is not None and r.f.get(den)]
                value = median([x / y for x, y in pairs]) if pairs else None
                detail = "%s / %s" % tuple(show(n, median(v)) for n, v in zip((num, den), zip(*pairs))) if pairs else ""
                add(row, text, value, "x", sense, near if where == "near" else far, detail, where)
    s = b.single
    fd, memory = s.get("row 9"), s.get("rows 11, 12")
    if "single" not in (b.args.skip or ""):
        for call in ("read", "write"):
            add("9", "%s() on a descriptor that is not ours: added" % call, fd and fd[call], "ns", "<=", 10)
        add("10", "start of /bin/true: added", s.get("row 10"), "ms", "<=", 1)
        add("11", "memory of an idle connection, at %d" % HELD, memory and memory["kib_each"], "KiB", "<=", 64,
            memory and "%d KiB with %d, %d KiB with one; TCP %d KiB" % (
                memory["many_kib"], HELD, memory["few_kib"], memory["tcp_kib"]) or "")
        add("12", "CPU of %d idle connections" % HELD, memory and memory["cpu_ns"] / memory["seconds"] / 1e7, "%",
            "<=", 0.01, memory and "%.2f ms in %g s" % (memory["cpu_ns"] / 1e6, memory["seconds"]) or "")
    for a in b.apps:
        if a["threshold"] is None:
            continue
        t, n = a["rates"]["tcp"], a["rates"]["ntb"]
        pairs = list(zip(n, t))
        form = "%.2f / %.2f GB/s" if a["name"].startswith(BYTES) else "%.0f / %.0f a second"
        scale = 1e-9 if a["name"].startswith(BYTES) else 1
        add(a["row"], a["name"] + ", against TCP", median([x / y for x, y in pairs]) if pairs else None, "x", ">=",
            a["threshold"], form % (median(n) * scale, median(t) * scale) if pairs else "")
    if "single" not in (b.args.skip or ""):
        add("15", "system calls a message, 1-byte ping-pong", s.get("row 15"), "", "<=", 0.001)
    return out


def show(name, value):
    if "stream" in name:
        return "%.2f GB/s" % (value / 1e9)
    if "connrate" in name:
        return "%.0f a second" % value
    return "%.0f ns" % value if value < 10000 else "%.1f us" % (value / 1000)
