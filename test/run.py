#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""run.py - runs the tests and says what became of each

    run.py --build build [--san DIR]... [--linked-in] [--only PATTERN]... [--jobs N] SUITE...

Suites: unit, fault (programs of their own), sock (each on kernel TCP, then on ntbsock: "warm" lets every connection
move to the ring first, "cold" does not), diff (the same calls on both, compared), sys (real programs), runtimes (more of
them, too big to install for everybody), model (Spin), fuzz (corpus and a few seconds each).
--san DIR adds the unit, fault and socket tests of a sanitizer build; --linked-in says that the library is part of the
programs of --build.

A test is a program: exit status 0 passed, 77 skipped (its last line SKIP says why), anything else failed.  It runs
in a directory of its own with TMPDIR there, without standard input, within a time limit (a line "limit: SECONDS"
near its head), and whatever it leaves running is killed afterwards.  A socket test says "ring: yes" if its bytes
must have been seen on the ring in the warm run, according to the counters of its processes; then falling back
quietly is a failure.  "ring: most" wants nine bytes in ten there.

Closes with the ten slowest tests and a line "N passed, N failed, N skipped"; exit status 1 if one failed."""

import argparse
import concurrent.futures
import fnmatch
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIMITS = {"unit": 60, "fault": 60, "sock": 20, "diff": 170, "sys": 120, "runtimes": 120, "model": 180, "fuzz": 180}
ALONE = ("diff", "sys", "runtimes", "model", "fuzz")      # what measures or uses many CPUs
TAIL = 40
say_lock = threading.Lock()


class Test:
    def __init__(self, suite, name, source, command, variant="", env=None, check=None, slow=1):
        self.suite, self.source, self.command = suite, source, command
        self.label = f"{suite}/{name}" + (f" ({variant})" if variant else "")
        self.name, self.variant, self.env, self.check = name, variant, env or {}, check
        self.limit = int(header(source, "limit") or LIMITS[suite]) * slow
        self.result, self.why, self.seconds, self.output = None, "", 0.0, ""


def header(source, key):
    """The value of a "key: value" line among the first lines of a test."""
    with open(source, errors="replace") as f:
        head = [next(f, "") for _ in range(40)]
    for line in head:
        m = re.match(r"^[\s/*#]*%s: *([\w.-]+)[\s*/]*$" % key, line)
        if m:
            return m.group(1)
    return None


def say(text):
    with say_lock:
        print(text, flush=True)


def pids_tagged(tag):
    """Processes that have the tag of a test in their environment: children that moved out of its process group."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as f:
                    if tag in f.read().split(b"\0"):
                        yield int(entry)
            except OSError:
                pass


def stacks(tag):
    """Where the processes of a test that hangs are."""
    text = []
    for pid in list(pids_tagged(tag))[:4]:
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                text.append(f"--- process {pid}: {f.read().replace(chr(0), ' ')[:150]}")
            if shutil.which("gdb"):
                out = subprocess.run(["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 12"], timeout=30,
                                     stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                                     env={**os.environ, "DEBUGINFOD_URLS": ""})
                text += [x for x in out.stdout.splitlines() if x.startswith(("#", "Thread"))][:60]
        except (OSError, subprocess.TimeoutExpired):
            pass
    return "\n".join(text)


def run(test, base):
    start = time.monotonic()
    tmp = tempfile.mkdtemp(prefix=re.sub(r"\W+", "-", test.label) + ".", dir=base)
    os.chmod(tmp, 0o755)
    tag = "NTBS_TEST_TAG=" + os.path.basename(tmp)
    seed = os.environ.get("T_SEED") or str(random.randrange(1 << 30))
    env = {k: v for k, v in os.environ.items() if not k.startswith("NTBSOCK_") and k != "LD_PRELOAD"}
    env.update(test.env, T_SEED=seed, T_SRC=ROOT, TMPDIR=tmp, T_DIR=tmp, PYTHONDONTWRITEBYTECODE="1")
    env["NTBS_TEST_TAG"] = tag.split("=", 1)[1]
    env.setdefault("NTBSOCK_STATS", os.path.join(tmp, "stats.%p"))
    trace = ""
    if not os.access(test.command[0], os.X_OK) and os.path.isabs(test.command[0]):
        # one program that did not build fails alone; the rest is still worth knowing
        test.command = ["sh", "-c", 'echo "$0 is missing: it was not built" >&2; exit 1', test.command[0]]
    with open(os.path.join(tmp, "output"), "wb") as out:
        p = subprocess.Popen(test.command, cwd=tmp, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                             start_new_session=True)
        try:
            status = p.wait(test.limit)
        except subprocess.TimeoutExpired:
            status = None
            trace = stacks(tag.encode())
    for pid in pids_tagged(tag.encode()):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    p.wait()
    with open(os.path.join(tmp, "output"), errors="replace") as f:
        test.output = f.read()
    if status is None:
        test.result, test.why = "FAIL", f"no end after {test.limit} s"
        test.output += "\n" + trace
    elif status == 77:
        reasons = [x for x in test.output.splitlines() if x.startswith("SKIP")]
        test.result, test.why = "SKIP", reasons[-1][4:].strip(" :") if reasons else "no reason given"
    elif status:
        test.result, test.why = "FAIL", f"signal {-status}" if status < 0 else f"exit status {status}"
    else:
        test.result = "ok"
        problem = test.check(test, tmp) if test.check else None
        if problem:
            test.result, test.why = "FAIL", problem
    test.seconds = time.monotonic() - start
    line = f"{test.result:4} {test.label:44} {test.seconds:7.2f} s"
    if test.result == "SKIP":
        line += f"  ({test.why})"
    elif test.result == "FAIL":
        line += f"  {test.why}, T_SEED={seed}\n" + "\n".join("     | " + x for x in test.output.rstrip().splitlines()[-TAIL:])
    say(line)
    shutil.rmtree(tmp, ignore_errors=True)


def read_stats(tmp):
    for path in sorted(glob.glob(os.path.join(tmp, "stats.*"))):
        with open(path) as f:
            yield path, json.load(f)


def ring_used(test, tmp):
    """What the counters of the test's processes say, against what its source promises."""
    want = header(test.source, "ring")
    if want not in ("yes", "most", "no", "any"):
        return f'{os.path.relpath(test.source, ROOT)} has no line "ring: yes", "most", "no" or "any"'
    tx = rx = tcp = n = 0
    try:
        for _, s in read_stats(tmp):
            tx, rx, tcp, n = tx + s["tx"]["bytes"], rx + s["rx"]["bytes"], tcp + s["tcp"]["bytes"], n + 1
    except (ValueError, KeyError, TypeError) as e:
        return f"NTBSOCK_STATS wrote something that is not what ntbsock(7) says: {e!r}"
    if not n:
        return "no process wrote NTBSOCK_STATS: the library was not there"
    if want in ("yes", "most") and not (tx and rx):
        return f"nothing went over the ring: {tx} bytes sent and {rx} received there by {n} processes"
    # a channel over a port is asked for first: what is sent meanwhile goes by TCP; and an offer that is taken up half a
    # second late, as a sanitizer's process may on a busy machine, has been given up
    if want == "most" and tx + rx < 9 * tcp and test.variant != "bridge" and not test.variant.startswith("san-"):
        return f"{tcp} bytes went over TCP, and {tx + rx} over the ring: less than nine in ten"
    if want == "no" and (tx or rx):
        return f"{tx} bytes sent and {rx} received over the ring by a test that says it uses none"
    return None


class Broker:
    """A broker in a directory of its own, for all socket tests of one build."""

    def __init__(self, build, base, name, options=()):
        self.dir = os.path.join(base, "run-" + name)
        self.conf = os.path.join(base, "conf-" + name)
        os.mkdir(self.dir, 0o755)
        os.mkdir(self.conf, 0o755)
        self.log = open(os.path.join(self.dir, "log"), "w+")
        ready, told = os.pipe()
        self.p = subprocess.Popen([os.path.join(build, "ntbsockd"), "--run-dir", self.dir, "--config-dir", self.conf,
                                   "--ready-fd", str(told), *options], pass_fds=[told], stdin=subprocess.DEVNULL,
                                  stdout=self.log, stderr=self.log)
        os.close(told)
        came_up = os.read(ready, 1)     # its word, or the end of the pipe with the end of the broker
        os.close(ready)
        if not came_up:
            self.stop()
            raise RuntimeError(f"{build}/ntbsockd did not come up:\n{self.text}")

    def stop(self):
        """Ends it; what is wrong with its end, or None."""
        early = self.p.poll()
        if early is None:
            self.p.terminate()
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.p.kill()
        code = self.p.wait()
        self.log.seek(0)
        self.text = self.log.read()
        if early is not None:
            return f"the broker ended during the tests, status {early}"
        return f"the broker ended with status {code}" if code else None


def programs(build, suite):
    """Tests of a suite that are programs or scripts: (name, source, command)."""
    for source in sorted(glob.glob(os.path.join(ROOT, "test", suite, "*"))):
        name, ext = os.path.splitext(os.path.basename(source))
        if ext == ".c":
            if suite != "sys":
                yield name, source, [os.path.join(build, "test", suite, name)]
        elif ext in (".sh", ".py") and os.access(source, os.X_OK):
            yield name, source, [source]


def collect(args, brokers):
    for suite in args.suite:
        if suite in ("unit", "fault", "sys", "runtimes"):
            lib = {"PYTHONPATH": os.path.join(ROOT, "test/sys")} if suite == "runtimes" else {}
            for name, source, command in programs(args.build, suite):
                yield Test(suite, name, source, command, env=san_env(args.build) if args.linked_in else {"T_BUILD": args.build, **lib},
                           slow=4 if args.linked_in else 1)
        elif suite == "sock":
            yield from sock_tests(args.build, args.linked_in, brokers, "")
        elif suite == "diff":
            yield from diff_tests(args.build)
        elif suite == "model":
            source = os.path.join(ROOT, "test/model/run.sh")
            if os.path.exists(source):
                yield Test(suite, "run", source, ["sh", source], env={"T_BUILD": args.build})
        elif suite == "fuzz":
            if os.path.exists(os.path.join(ROOT, "test/fuzz/fuzz.mk")):
                yield Test(suite, "replay", os.path.join(ROOT, "test/fuzz/fuzz.mk"),
                           ["make", "-C", ROOT, "--no-print-directory", "fuzz-check"])
    for build in args.san:
        variant = os.path.basename(build)
        for suite in ("unit", "fault"):
            for name, source, command in programs(build, suite):
                if source.endswith(".c"):
                    yield Test(suite, name, source, command, variant, san_env(build), slow=4)
        yield from sock_tests(build, True, brokers, variant)


# Sequences that make check draws.  One of them takes a tenth of a second.
DIFF_SEEDS = "1-150"


def diff_tests(build):
    source = os.path.join(ROOT, "test/diff/main.c")
    command = [os.path.join(build, "test/diff/diff"), "--build", build]
    yield Test("diff", "regress", source, command + ["--replay"] + sorted(glob.glob(os.path.join(ROOT, "test/diff/regress/*.seq"))))
    yield Test("diff", "seeds", source, command + ["--seeds", DIFF_SEEDS])


def san_env(build):
    return {"T_BUILD": build, "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:use_sigaltstack=0", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
            "TSAN_OPTIONS": "halt_on_error=1:die_after_fork=0:atexit_sleep_ms=20"}


def sock_tests(build, linked_in, brokers, variant):
    key = variant or "sock"
    for name, source, command in programs(build, "sock"):
        if not source.endswith(".c"):
            continue
        env = {"T_BUILD": build}
        if linked_in:
            env.update(san_env(build), T_SAN="1")
        else:
            yield Test("sock", name, source, command, "tcp", env)
            command = [os.path.join(build, "ntbsock-ctl"), "run", "--quiet", "--"] + command
        env = {**env, "T_NTBSOCK": "1", "broker": key}
        brokers.setdefault(key, build)
        yield Test("sock", name, source, command, f"{variant} warm".strip(), {**env, "T_WARM": "1"}, ring_used, 4 if linked_in else 1)
        if not linked_in:   # through the window of a port that leads back to this host (ntbsockd(8), loop)
            brokers.setdefault("bridge", build)
            yield Test("sock", name, source, command, "bridge", {**env, "T_WARM": "4", "T_BRIDGE": "1", "broker": "bridge"}, ring_used)
        if header(source, "ring") in ("yes", "most"):
            yield Test("sock", name, source, command, f"{variant} cold".strip(), env, None, 4 if linked_in else 1)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--build", default="build")
    ap.add_argument("--san", action="append", default=[])
    ap.add_argument("--linked-in", action="store_true")
    ap.add_argument("--only", action="append", default=[])
    ap.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    ap.add_argument("suite", nargs="*")
    args = ap.parse_args()
    for s in args.suite:
        if s not in LIMITS:
            ap.error(f"no suite '{s}'; there are: {' '.join(LIMITS)}")
    args.build = os.path.abspath(args.build)
    args.san = [os.path.abspath(x) for x in args.san]

    # A stopped run stops its tests: SIGTERM as an exception, so that every "finally" gets its turn.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    base = tempfile.mkdtemp(prefix="ntbsock-test.")
    os.chmod(base, 0o755)
    brokers, running, problems = {}, {}, []
    tests = [t for t in collect(args, brokers)
             if not args.only or any(fnmatch.fnmatch(t.name, p) or fnmatch.fnmatch(t.label, p) for p in args.only)]
    if not tests:
        print("no test of that name", file=sys.stderr)
        return 2
    try:
        for key in sorted({t.env["broker"] for t in tests if "broker" in t.env}):
            try:
                running[key] = Broker(brokers[key], base, key, ["--port", "loop"] if key == "bridge" else [])
            except (RuntimeError, OSError) as e:
                problems.append(str(e))
        for t in tests:
            if "broker" in t.env:
                b = running.get(t.env.pop("broker"))
                if b:
                    t.env.update(NTBSOCK_RUN_DIR=b.dir, NTBSOCK_CONFIG_DIR=b.conf)
        # What measures or uses many CPUs runs alone.
        pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
        try:
            for f in [pool.submit(run, t, base) for t in tests if t.suite not in ALONE]:
                f.result()
        finally:
            pool.shutdown(cancel_futures=True)
        for t in tests:
            if t.suite in ALONE:
                run(t, base)
    finally:
        for key, b in running.items():
            problem = b.stop()
            if problem:
                problems.append(f"{problem} ({key}); its log ends:\n" + "\n".join(b.text.splitlines()[-TAIL:]))
        shutil.rmtree(base, ignore_errors=True)

    for p in problems:
        print("FAIL broker: " + p)
    print("\nslowest:")
    for t in sorted(tests, key=lambda x: -x.seconds)[:10]:
        print(f"  {t.seconds:7.2f} s  {t.label}")
    count = {r: sum(t.result == r for t in tests) for r in ("ok", "FAIL", "SKIP")}
    failed = count["FAIL"] + len(problems)
    if failed:
        print("\nfailed: " + ", ".join([t.label for t in tests if t.result == "FAIL"] + ["broker"] * len(problems)))
    print(f"\n{count['ok']} passed, {failed} failed, {count['SKIP']} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
