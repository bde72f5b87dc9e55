#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""ntbsock beside the bare limit, AF_UNIX, TCP and, where installed, UCX and libfabric, in one run.

Figures of one machine mean little on another, and little on the same one a minute later: CPUs of a virtual machine
move, neighbours come and go.  So everything is measured in rounds that take each transport in turn, a ratio is made
within a round, and the median over the rounds is what is reported.  Each round begins and ends with the latency of a
bounced cache line: it says whether the two CPUs were near (one cache) or far; a round in which that changed is
thrown away, and near and far rounds are reported apart.

Writes results.json, results.md and latency.svg into build/bench.  Exit status: 0 measured, 1 something could not be
measured (or with --check: a row fails), 2 bad usage.
"""
import argparse
import json
import os
import platform
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_out    # noqa: E402
import bench_rows   # noqa: E402
from bench_apps import Apps    # noqa: E402
from bench_run import Failed, Runner, have, median    # noqa: E402

NEAR_NS = 60        # a line bounced in less: one cache lies behind both CPUs
LADDER = [1, 8, 32, 54, 55, 64, 100, 116, 117, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
STREAM = [64, 1024, 65536, 1 << 20]


def product_ring():
    """(slots, bytes of the bulk ring) that a connection has by default, or as the environment says."""
    def size(text):
        m = re.fullmatch(r"(\d+)([kKmM]?)", text)
        if not m:
            raise Failed("NTBSOCK_RING or NTBSOCK_BULK: '%s' is no number" % text)
        return int(m.group(1)) << {"": 0, "k": 10, "m": 20}[m.group(2).lower()]

    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ntbsock", "conf.c")
    with open(source) as f:
        text = f.read()
    slots = re.search(r"\.ring = (\d+),", text)
    bulk = re.search(r"\.bulk = (\d+)u? << (\d+),", text)
    if not slots or not bulk:
        raise Failed("the defaults of a ring are no longer found in ntbsock/conf.c; bench.py reads them there")
    env = os.environ
    return (size(env["NTBSOCK_RING"]) if "NTBSOCK_RING" in env else int(slots.group(1)),
            size(env["NTBSOCK_BULK"]) if "NTBSOCK_BULK" in env else int(bulk.group(1)) << int(bulk.group(2)))


class Round:
    """The figures of one round by name, and what could not be measured."""

    def __init__(self, bench, number):
        self.b, self.r, self.number = bench, bench.r, number
        self.f, self.errors = {}, {}

    def get(self, name, fn):
        try:
            got = fn()
        except (Failed, ValueError, KeyError, OSError) as e:
            self.errors[name] = str(e)
            return
        self.f.update(got if isinstance(got, dict) else {name: got})

    def line(self):
        return self.r.limit("--tests", "line", "--seconds", "0.05")[0]["oneway_ns"]

    def limit(self):
        b, out = self.b, {}
        for x in self.r.limit("--tests", "slots,sustained", "--seconds", str(b.seconds), "--slots",
                              ",".join(str(n) for n in sorted({64, 512, b.slots}))):
            if x["test"] == "slots":
                out["limit.slot%d.%d" % (x["lines"], x["slots"])] = x["oneway_ns"]
            else:
                out["limit.sustained.%d" % x["slots"]] = x["ns_per_message"]
        for x in self.r.limit("--tests", "stream", "--seconds", str(b.seconds), "--rings",
                              ",".join(str(n) for n in sorted({1 << 20, b.bulk} if b.bulk <= 8 << 20 else {8 << 20})),
                              "--chunks", "16K,64K"):
            out["limit.stream.%s.%d.%d" % (x["copy"], x["ring"], x["chunk"])] = x["bytes_per_second"]
        return out

    def latency(self, transport, sizes, name, *args):
        got = self.r.pingpong(transport, "--latency", "--sizes", ",".join(str(s) for s in sizes), "--seconds",
                              str(self.b.seconds), *args)
        out = {}
        for x in got:
            out["%s.%s.%d" % (transport, name, x["size"])] = x["oneway_ns"]["median"]
            out["%s.%s.%d.mean" % (transport, name, x["size"])] = x["oneway_ns"]["mean"]
            out["%s.%s.%d.p99" % (transport, name, x["size"])] = x["oneway_ns"]["p99"]
        return out

    def busy(self, transport):
        """Both sides on one CPU, and eight busy programs there."""
        hogs = [self.r.start(["timeout", "30", "sh", "-c", "while :; do :; done"], self.r.cpus[0]) for _ in range(8)]
        try:
            cpu = str(self.r.cpus[0])
            return self.latency(transport, [1], "busy", "--cpus", cpu + "," + cpu, "--count",
                                "2000" if self.b.quick else "8000")
        finally:
            for h in hogs:
                self.r.end_group(h.pid)
                h.wait()

    def stream(self, transport):
        got = self.r.pingpong(transport, "--stream", "--seconds", str(self.b.seconds), "--sizes",
                              ",".join(str(s) for s in STREAM))
        return {"%s.stream.%d" % (transport, x["size"]): x["bytes_per_second"] for x in got}

    def connrate(self, transport):
        got = self.r.pingpong(transport, "--connrate", "--seconds", str(2 * self.b.seconds), share=False)
        return {"%s.connrate" % transport: got[0]["per_second"]}

    def others(self):
        sizes = (1, 116, 65536) if self.b.quick else (1, 116, 1024, 65536)
        if have("ucx_perftest"):
            for size in sizes:
                self.get("ucx.lat.%d" % size, lambda s=size: self.r.ucx(
                    "tag_lat", s, int(self.b.seconds * (1e6 if s < 4096 else 4e4)))["median_us"] * 1000)
            for size in (64, 65536) if self.b.quick else STREAM:
                self.get("ucx.stream.%d" % size, lambda s=size: self.r.ucx(
                    "stream_bw", s, int(self.b.seconds * 4e9 / max(s, 4096)))["MBps"] * (1 << 20))
        if have("fi_pingpong"):
            for size in sizes:
                self.get("libfabric.lat.%d" % size, lambda s=size: self.r.libfabric(
                    s, int(self.b.seconds * (1e6 if s < 4096 else 4e4))) * 1000)

    def measure(self):
        self.get("line", self.line)
        self.get("limit", self.limit)
        for t in ("ntb", "tcp", "unix"):
            self.get(t + ".block", lambda t=t: self.latency(t, [1, 100], "block"))
            self.get(t + ".stream", lambda t=t: self.stream(t))
            self.get(t + ".connrate", lambda t=t: self.connrate(t))
            self.get(t + ".spin", lambda t=t: self.latency(t, [1], "spin", "--mode", "spin"))
        for t in ("ntb", "tcp"):
            for n in ("1", "1000"):
                self.get("%s.epoll%s" % (t, n), lambda t=t, n=n: self.latency(
                    t, [1], "epoll" + n, "--mode", "epoll", "--fds", n))
            self.get(t + ".onecore", lambda t=t: self.latency(t, [1], "onecore", "--one-core"))
            self.get(t + ".busy", lambda t=t: self.busy(t))
        self.others()
        self.get("line2", self.line)

    @property
    def distance(self):
        """near, far, or None for a round that was both."""
        a, b = self.f.get("line"), self.f.get("line2")
        if a is None or b is None or (a < NEAR_NS) != (b < NEAR_NS):
            return None
        return "near" if a < NEAR_NS else "far"


class Bench:
    def __init__(self, args, runner):
        self.args, self.r, self.quick = args, runner, args.quick
        self.seconds = 0.1 if args.quick else 0.3
        self.nr_rounds = args.rounds or (4 if args.quick else 9)
        self.slots, self.bulk = product_ring()
        self.rounds, self.single, self.ladder, self.apps, self.cp = [], {}, {}, [], {}
        self.notes, self.errors = [], {}
        self.began = time.monotonic()

    def say(self, text):
        print("[%4.0f s] %s" % (time.monotonic() - self.began, text), file=sys.stderr, flush=True)

    def all_rounds(self):
        for i in range(self.nr_rounds):
            rnd = Round(self, i)
            rnd.measure()
            self.rounds.append(rnd)
            self.say("round %d of %d: a line takes %.0f ns (%s)%s" % (
                i + 1, self.nr_rounds, rnd.f.get("line", 0), rnd.distance or "mixed: thrown away",
                "; not measured: " + ", ".join(sorted(rnd.errors)) if rnd.errors else ""))
            for name, why in rnd.errors.items():
                self.errors.setdefault(name, why)

    def all_ladders(self):
        """Latency by size for the plot, transports in turn."""
        sizes = ",".join(str(s) for s in LADDER)
        got = {}
        for _ in range(1 if self.quick else 3):
            for t in ("limit", "ntb", "unix", "tcp"):
                try:
                    if t == "limit":
                        run = self.r.limit("--tests", "ladder", "--seconds", "0.02", "--sizes", sizes, "--slots",
                                           str(self.slots), "--rings", str(min(self.bulk, 8 << 20)))
                        run = [(x["size"], x["oneway_ns"]) for x in run]
                    else:
                        run = self.r.pingpong(t, "--latency", "--sizes", sizes, "--seconds",
                                              "0.03" if self.quick else "0.1")
                        run = [(x["size"], x["oneway_ns"]["median"]) for x in run]
                except Failed as e:
                    self.errors["ladder." + t] = str(e)
                    continue
                best = {}
                for size, ns in run:    # limit: the better of two kinds of stores
                    best[size] = min(ns, best.get(size, ns))
                for size, ns in best.items():
                    got.setdefault(t, {}).setdefault(size, []).append(ns)
        self.ladder = {t: {s: median(v) for s, v in d.items()} for t, d in got.items()}
        for t in ("ucx", "libfabric"):      # the few sizes that the rounds have
            for size in (1, 116, 1024, 65536):
                v = [r.f[n] for r in self.rounds for n in ["%s.lat.%d" % (t, size)] if n in r.f]
                if v:
                    self.ladder.setdefault(t, {})[size] = median(v)
        self.say("latency by size")

    def all_singles(self):
        for name, fn in bench_rows.SINGLES:
            try:
                self.single[name] = fn(self.r, self.quick)
                self.say(name)
            except (Failed, OSError, ValueError) as e:
                self.errors[name] = str(e)
                self.say("%s: not measured: %s" % (name, e))

    def all_apps(self):
        apps = Apps(self.r, 1 if self.quick else 2)
        entries, missing = apps.all(self.quick)
        self.notes += ["rows 13 and 14: " + m for m in missing]
        runs = 2 if self.quick else 3
        for row, name, limit, fn in entries:
            rates = {"tcp": [], "ntb": []}
            for _ in range(runs):
                for t in rates:
                    try:
                        rates[t].append(fn(t))
                    except (Failed, ValueError, KeyError, OSError) as e:
                        self.errors["%s (%s)" % (name, t)] = str(e)
            self.apps.append({"row": row, "name": name, "threshold": limit, "rates": rates})
            self.say("%s: %s" % (name, ", ".join("%s %.0f" % (t, median(v)) for t, v in rates.items() if v)))
        self.cp = apps.cp

    def run(self):
        skip = set(self.args.skip.split(",")) if self.args.skip else set()
        for part, fn in (("rounds", self.all_rounds), ("ladder", self.all_ladders), ("single", self.all_singles),
                         ("apps", self.all_apps)):
            if part not in skip:
                fn()


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    return {"cpu": model.group(1) if model else platform.machine(), "cpus": os.cpu_count(),
            "kernel": platform.release(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "load": os.getloadavg()[0]}


def main():
    p = argparse.ArgumentParser(description="ntbsock beside limit, AF_UNIX, TCP, UCX and libfabric, in one run.")
    p.add_argument("--build", default="build", help="where the programs are (default: build)")
    p.add_argument("--out", help="where results go (default: BUILD/bench)")
    p.add_argument("--quick", action="store_true", help="about 2 minutes instead of 10")
    p.add_argument("--rounds", type=int, help="rounds (default 9, quick 4)")
    p.add_argument("--skip", help="parts to leave out, with commas: rounds, ladder, single, apps")
    p.add_argument("--check", action="store_true", help="exit status 1 if a row fails its threshold")
    args = p.parse_args()
    bad = set((args.skip or "rounds").split(",")) - {"rounds", "ladder", "single", "apps"}
    if bad:
        p.error("--skip: no such part: " + ", ".join(sorted(bad)))
    runner = Runner(args.build)
    try:
        missing = runner.missing()
        if missing:
            print("bench: not built: %s; run make first" % ", ".join(missing), file=sys.stderr)
            return 1
        if len(runner.cpus) < 2:
            print("bench: needs two CPUs, this process may use %d" % len(runner.cpus), file=sys.stderr)
            return 1
        out = args.out or os.path.join(args.build, "bench")
        os.makedirs(out, exist_ok=True)
        info = machine()
        bench = Bench(args, runner)
        runner.start_broker()
        bench.run()
        rows = bench_rows.rows(bench)
        bench_out.write(bench, rows, info, out)
        if bench.errors:
            return 1
        return 1 if args.check and any(r["verdict"] == "FAIL" for r in rows) else 0
    except Failed as e:
        print("bench: %s" % e, file=sys.stderr)
        return 1
    finally:
        runner.close()


if __name__ == "__main__":
    sys.exit(main())
