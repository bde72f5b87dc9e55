#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""suite.py - the runs of make rig: boots pairs of guests and counts what their scripts say

    suite.py [--build build] [--list] [--keep] [--logs DIR] [RUN...]

A run is a pair of guests on one bridge, in which both run one script of test/rig/guest; "server" is the ivshmem server
alone, without guests.  The script says how many checks
it makes ("PLAN n") and what became of each ("TEST ok ms name", "TEST failed ms name"); a check that is announced and
not reported has failed, and so has a guest that does not end, ends otherwise, or has a clock that runs fast.
Runs with "iommufd" in their names are on a newer kernel, and fail if VFIO has not gone by it.
The console of a guest in which something failed is shown.  Without RUN all that are part of make rig; names with shell
patterns will do.  Closes with the line "N passed, N failed"; exit status 1 if one failed or nothing ran."""

import argparse
import fnmatch
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

import image
import rig as riglib

HERE = os.path.dirname(os.path.abspath(__file__))
TAIL = 60


class Run:
    """@strike: called with the pair once both guests are started; what it does to them is part of the run.  @soak: part
    of make rig-soak, not of make rig.

    An access to a register that a model does not know ends it, and fails the run."""

    def __init__(self, name, bridge, script, what, limit=180, strike=None, soak=False, **options):
        self.name, self.bridge, self.script, self.what = name, bridge, script, what
        self.limit, self.strike, self.soak = limit, strike, soak
        self.options = {"model_options": ("--strict",), **options}
        self.kernel = options.get("kernel")

    def parts(self):
        """What image.py must have made."""
        return riglib.parts(self.bridge, self.kernel or "kernel") if self.bridge else ()


def lose_b(rig, command, limit):
    if rig.guests["a"].wait_line("READY", time.monotonic() + limit):
        rig.guests["b"].kill()
        rig.start("b", command)


def events(rig, command, limit):
    """What soak.py in guest a wants of the host: b without power, the link down for a second, stores that come late."""
    a, done, end = rig.guests["a"], 0, time.monotonic() + limit
    while a.wait(time.monotonic() + 0.1) is None and time.monotonic() < end:
        asked = [line.split() for line in a.lines if line.startswith("EVENT ")]
        for _, number, kind in asked[done:]:
            if kind == "kill":
                rig.guests["b"].kill()
                rig.start("b", command)
            elif kind == "link":
                rig.control("link down")
                time.sleep(1)
                rig.control("link up")
            elif kind == "late":
                rig.control("delay 0 400000")
            if kind in ("kill", "link", "late"):
                with open(f"{rig.out}/{'late' if kind == 'late' else 'done'}.{number}", "w"):
                    pass
            if kind == "late":
                while not os.path.exists(f"{rig.out}/done.{number}") and time.monotonic() < end:
                    time.sleep(0.1)
                time.sleep(1)
                rig.control("delay 0 0")
        done = len(asked)


def events_runs(bridge, what, kinds, more, **options):
    """Each of @kinds twice for make rig, and with @more of them 20 times for make rig-soak."""
    return [Run(f"{bridge}-{name}", bridge, "soak.py", f"connections over {what} while b dies and comes back: each event {times} times",
                limit=100 + times * len(which) * 50, strike=events, soak=times > 2, reboots=True,
                env={"RIG_EVENTS": " ".join(which * times)}, **options)
            for name, times, which in (("events", 2, kinds), ("soak", 20, kinds + more))]


def engine(rig, command, limit):
    """What the model says that the engine of guest b has copied; then it halts in the middle of something."""
    end, seen = time.monotonic() + limit, []
    for line in ("MEASURED", "STREAMED"):
        if not all(rig.guests[g].wait_line(line, end) for g in riglib.GUESTS):
            return      # they have said why
        seen.append(json.loads(rig.control("counters"))[1])
        if line == "STREAMED":
            rig.control("engine-halt 1 9")
        with open(f"{rig.out}/after.{line}", "w", encoding="ascii"):
            pass
    copies, size = (seen[1][k] - seen[0][k] for k in ("copies", "copy_bytes"))
    print(f"  the engine of b: {copies} copies, {size} bytes of the stream", flush=True)
    if size < 1000000 or copies < 100:
        raise riglib.Failed(f"the engine has not copied the stream: {seen}")


RUNS = [
    Run("server", None, "ivserver_test.py", "the ivshmem server, spoken to without guests", limit=30),
    Run("ivshmem", "ivshmem", "ivshmem.sh", "VFIO and doorbells over ivshmem; ntbsock inside a guest"),
    Run("ivshmem-return", "ivshmem", "return.sh", "a guest loses its power, boots again, and is met anew",
        strike=lose_b),
    Run("tcp-programs", "none", "programs.py", "redis, iperf3, nginx and curl on TCP: what they do without ntbsock",
        env={"RIG_PLAIN": "1"}),
    Run("tcp-events", "none", "soak.py", "connections on TCP to a guest that dies: what TCP gives", strike=events,
        reboots=True, env={"RIG_PLAIN": "1", "RIG_EVENTS": "kill reboot"}),
    Run("ivshmem-pingpong", "ivshmem", "pingpong.sh", "brokers drive the bridge, and pingpong goes through the window"),
    Run("ivshmem-locked", "ivshmem", "pingpong.sh", "the same where the kernel is locked down, and sysfs maps nothing",
        env={"RIG_LOCKDOWN": "1"}),
    Run("ivshmem-iommufd", "ivshmem", "pingpong.sh", "the same, where VFIO goes by iommufd",
        kernel="iommufd", env={"RIG_VFIO": "iommufd", "RIG_LOCKDOWN": "1"}),
    Run("ivshmem-programs", "ivshmem", "programs.py", "redis, iperf3, nginx and curl between the guests over ivshmem"),
    Run("ivshmem-selftest", "ivshmem", "selftest.sh", "ntbsock-ctl ports, bind, selftest, unbind over ivshmem"),
    *events_runs("ivshmem", "ivshmem", ["kill", "reboot", "broker"], ["mute"]),
]
for family, cpu in (("gen3", "Skylake"), ("icx", "Ice Lake"), ("spr", "Sapphire Rapids"), ("amd", "AMD")):
    RUNS += [
        Run(f"{family}-netdev", family, "netdev.sh", f"Linux' driver and network device on the {cpu} model",
            iommu=False),
        Run(f"{family}-selftest", family, "selftest.sh", f"ntbsock-ctl selftest on the {cpu} model, through VFIO"),
        Run(f"{family}-pingpong", family, "pingpong.sh", f"brokers drive the {cpu} model, pingpong through its window",
            window="8m", remap=True),
        Run(f"{family}-programs", family, "programs.py", f"redis, iperf3, nginx and curl through the window of the {cpu} model",
            window="8m"),
        Run(f"{family}-compare", family, "compare.py", f"ntbsock beside ntb_netdev on the {cpu} model", remap=True,
            window="4m", env={"RIG_WINDOWS": "of 4 MB, mapped"}),     # Linux gets no more in one piece
        Run(f"{family}-ntb_test", family, "ntbtest.sh", f"the kernel's ntb_test.sh on the {cpu} model", limit=300,
            iommu=False),
        # Minutes each: of Intel's, make rig has one, and make rig-soak all.
        *(r for r in events_runs(family, f"the {cpu} model", ["kill", "reboot", "link", "broker"], ["mute", "late"], window="8m")
          if r.soak or family in ("icx", "amd")),
    ]
RUNS += [
    Run("icx-numa", "icx", "pingpong.sh", "the bridge on another NUMA node: broker and arena go there", window="8m", remap=True,
        numa=True, env={"RIG_NODE": "1"}),
    Run("icx-iommufd", "icx", "selftest.sh", "ntbsock-ctl selftest through VFIO's file for the device, and iommufd",
        kernel="iommufd", env={"RIG_VFIO": "iommufd"}),
    Run("icx-iommufd-pingpong", "icx", "pingpong.sh", "brokers drive the Ice Lake model through iommufd",
        kernel="iommufd", window="8m", remap=True, env={"RIG_VFIO": "iommufd"}),
    Run("icx-iommufd-dma", "icx", "dma.sh", "a port by iommufd, and a copy engine by its group, which alone maps a window",
        kernel="iommufd", ioat=True, window="8m", remap=True, strike=engine, env={"RIG_VFIO": "iommufd"}),
    Run("icx-mapped", "icx", "netdev.sh", "the same with windows that QEMU maps, as a test wants that polls memory",
        iommu=False, remap=True),
    Run("icx-dma", "icx", "dma.sh", "LONG messages by a copy engine that the broker drives, and one that halts", ioat=True,
        window="8m", remap=True, strike=engine),
    Run("icx-ioat", "icx", "netdev.sh", "the same with copies by an engine that Linux' ioatdma accepts", iommu=False,
        ioat=True, env={"RIG_IOAT": "1"}),
]


class Clock:
    """The host's time between two lines on the console of a guest that sleeps two seconds by its own clock."""

    def __init__(self, guest):
        self.guest, self.seconds = guest, None
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        never = time.monotonic() + 3600
        if self.guest.wait_line("CLOCK begins", never):
            start = time.monotonic()
            if self.guest.wait_line("CLOCK ends", never):
                self.seconds = time.monotonic() - start

    def problem(self):
        if self.seconds is not None and self.seconds < 1.5:
            return f"its clock is fast: two seconds took {self.seconds:.1f} s"
        return None


def judge(name, lines, status):
    """Of one guest: (checks passed, what failed)."""
    planned, passed, failed = None, 0, []
    for line in lines:
        if re.search(r": ring \d+ out|^event \d+, ", line):
            print(f"         {name}: {line}", flush=True)
        found = re.match(r"(?:PLAN (\d+)|TEST (ok|failed) (\d+) (.*))$", line)
        if not found:
            continue
        if found.group(1):
            planned = int(found.group(1))
        elif found.group(2) == "ok":
            passed += 1
        else:
            failed.append(found.group(4))
        if found.group(2):
            print(f"  {found.group(2):6} {name}: {found.group(4)} ({int(found.group(3)) / 1000:.1f} s)", flush=True)
    if planned is None:
        failed.append("it did not begin its checks")
    elif passed + len(failed) != planned:
        failed += [f"{passed + len(failed)} of {planned} checks were made"]
    if status != 0 and not (status == 1 and failed):
        failed.append(riglib.describe(name, status))
    return passed, failed


def blame(name, failed, lines):
    for text in failed:
        print(f"  FAILED {name}: {text}", flush=True)
    if failed:
        print("".join(f"    {name}| {line}\n" for line in lines[-TAIL:]), end="", flush=True)


def keep_report(run, args, path):
    """What compare.py has measured: into the build directory, and in words."""
    folder = f"{args.build}/rig-report"
    os.makedirs(folder, exist_ok=True)
    with open(path) as f:
        r = json.load(f)
    if r["bridge"] == "amd":
        r["note"] = ("the kernel's ntb_test.sh (run amd-ntb_test) runs without its link test: ntb_hw_amd's link_disable "
                     "only masks interrupts")
    with open(f"{folder}/{run.name}.json", "w") as f:
        json.dump(r, f, indent=1)
    median = {k: {n: statistics.median(v) for n, v in r[k].items()} for k in ("one_way_ns", "stream_bytes_per_second")}
    print(f"  report {r['bridge']}, windows {r['windows']}, medians of {r['turns']}, emulated CPUs: only the ratios say anything")
    for what, key, unit, ratio in (("one way, us", "one_way_ns", 1e3, "one_way_ratio"),
                                   ("stream, MB/s", "stream_bytes_per_second", 1e6, "stream_ratio")):
        m = median[key]
        print(f"  report   {what:12}  ntb_netdev {m['ntb_netdev'] / unit:8.1f}  ntbsock {m['ntbsock'] / unit:8.1f}  "
              f"ntbsock / ntb_netdev {r[ratio]:.3f}")
    if "note" in r:
        print(f"  report   {r['note']}")
    print(f"  report   kept in {folder}/{run.name}.json", flush=True)


def model_disagrees(rig):
    """Why not: a model whose windows are trapped has seen at least what each guest says that it has sent by them."""
    if not rig.model or rig.remap:
        return None
    for name, count in zip(riglib.GUESTS, json.loads(rig.control("counters"))):
        said = sum(int(found.group(1)) for x in rig.guests[name].lines for found in [re.search(r": ring (\d+) out", x)] if found)
        if said:
            print(f"  {name} says that it has sent {said} bytes by its ring; {count['write_bytes']} went into its window", flush=True)
        if said > count["write_bytes"]:
            return f"guest {name} has not sent {said} bytes by its window: {count}"
    return None


def perform_here(run, args):
    """A run without guests: a script of this directory."""
    try:
        done = subprocess.run([f"{HERE}/{run.script}", f"{args.build}/rig/ivserver"], timeout=run.limit, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        status, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as e:
        status, text = None, e.stdout or b""
    lines = text.decode(errors="replace").splitlines()
    passed, failed = judge("here", lines, status)
    blame("here", failed, lines)
    return passed, len(failed)


def perform(run, args):
    """One run, told: (passed, failed)."""
    print(f"{run.name}: {run.what}", flush=True)
    start = time.monotonic()
    passed, failures = (perform_pair if run.bridge else perform_here)(run, args)
    print(f"{run.name}: {passed} passed, {failures} failed, {time.monotonic() - start:.0f} s", flush=True)
    return passed, failures


def perform_pair(run, args):
    try:
        image.make(f"{args.build}/rig", run.parts())    # another kernel is made when its turn has come
    except image.Failed as e:
        print(f"  FAILED {run.name}: {e}", flush=True)
        return 0, 1
    with riglib.Rig(args.build, run.bridge, keep=args.keep, **run.options) as rig:
        clocks = {}
        command = f"{'python3' if run.script.endswith('.py') else 'sh'} {HERE}/guest/{run.script}"
        for name in riglib.GUESTS:
            rig.start(name, command)
            clocks[name] = Clock(rig.guests[name])
        if run.strike:
            run.strike(rig, command, run.limit)
        result = rig.wait(run.limit)
        passed = failures = 0
        for name in riglib.GUESTS:
            ok, failed = judge(name, rig.guests[name].lines, result[name])
            if clocks[name].problem():
                failed.append(clocks[name].problem())
            passed, failures = passed + ok, failures + len(failed)
            blame(name, failed, rig.guests[name].lines)
        problem = rig.server_problem() or model_disagrees(rig)
        if problem:
            failures += 1
            print(f"  FAILED server: {problem}", flush=True)
        if failures and os.path.exists(f"{rig.folder}/server.log"):
            with open(f"{rig.folder}/server.log", errors="replace") as f:
                print("".join(f"    server| {line}" for line in f.readlines()[-TAIL:]), end="", flush=True)
        if os.path.exists(f"{rig.out}/report.json"):
            keep_report(run, args, f"{rig.out}/report.json")
        if args.logs:
            os.makedirs(args.logs, exist_ok=True)
            for log in ("a.log", "b.log", "server.log"):
                if os.path.exists(f"{rig.folder}/{log}"):
                    shutil.copyfile(f"{rig.folder}/{log}", f"{args.logs}/{run.name}.{log}")
    return passed, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--list", action="store_true", help="say which runs there are")
    parser.add_argument("--keep", action="store_true", help="leave the directory of each run behind")
    parser.add_argument("--logs", metavar="DIR", help="put the consoles of all runs there")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    args = parser.parse_args()
    if args.list:
        for run in RUNS:
            print(f"{run.name:16} {run.what}{' (rig-soak)' if run.soak else ''}")
        return
    chosen = [r for r in RUNS if (any(fnmatch.fnmatch(r.name, p) for p in args.runs) if args.runs else not r.soak)]
    if not chosen:
        parser.error(f"no run {' '.join(args.runs)}; there are {' '.join(r.name for r in RUNS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start, passed, failed = time.monotonic(), 0, 0
    try:
        image.make(f"{args.build}/rig", {p for r in chosen if not r.kernel for p in r.parts()})
        print(f"rig: set up in {time.monotonic() - start:.0f} s", flush=True)
        for run in chosen:
            ok, bad = perform(run, args)
            passed, failed = passed + ok, failed + bad
    except (riglib.Failed, image.Failed) as e:
        print(f"rig: {e}", flush=True)
        failed += 1
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
