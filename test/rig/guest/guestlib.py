# SPDX-License-Identifier: BSD-2-Clause
"""guestlib.py - what Python scripts in a guest share: checks that suite.py counts, the port, a broker, programs

lib.sh says what a check is and where guests wait for each other; here is the same in Python, and beside it Host: this
guest as a host of ntbsock.  It takes the port to vfio-pci, runs a broker on it and programs under ntbsock-ctl run, and
adds up what they have counted.

RIG_PLAIN=1: programs run on TCP as they are, and what only ntbsock can show is left out.  That is the reference, and how
a script itself is tested.  RIG_PORT: what the broker gets for --port instead of the function that it finds, and RIG_OUT:
instead of /out, for two network namespaces instead of guests."""

import ctypes
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ME, PEER = os.environ["RIG_ME"], os.environ["RIG_PEER"]
LIFE = int(os.environ.get("RIG_LIFE", "1"))
BRIDGE, BUILD = os.environ["RIG_BRIDGE"], os.environ["RIG_BUILD"]
OUT = os.environ.get("RIG_OUT", "/out")
PLAIN = bool(os.environ.get("RIG_PLAIN"))
ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2"}
NODE = {"a": 1, "b": 2}
FUNCTION = {"ivshmem": "1af4:1110", "gen3": "8086:201c", "icx": "8086:347e", "spr": "8086:347e", "amd": "1022:148b"}
SILENCE_MS = 3000
WORK = os.environ.get("TMPDIR", "/run/tmp")


class Failed(Exception):
    pass


def expect(ok, why):
    if not ok:
        raise Failed(why)


# ------------------------------------------------------------------ checks

class Checks:
    def __init__(self, planned):
        self.failed = False
        print(f"PLAN {planned}", flush=True)

    def __call__(self, name, what, *args):
        """Runs one check; what it returns, or None if it has failed."""
        start, result, word = time.monotonic(), None, "failed"
        try:
            result = what(*args)
            word, result = "ok", True if result is None else result
        except (Failed, OSError, subprocess.SubprocessError, ValueError, KeyError, EOFError) as e:
            print(f"{name}: {type(e).__name__}: {e}", flush=True)
            self.failed = True
        print(f"TEST {word} {int((time.monotonic() - start) * 1000)} {name}", flush=True)
        return result

    def finish(self):
        sys.exit(1 if self.failed else 0)


def wait_for(what, seconds, why):
    """What a function returns once that is true."""
    end = time.monotonic() + seconds
    while True:
        result = what()
        if result:
            return result
        expect(time.monotonic() < end, f"{why}: not within {seconds} s")
        time.sleep(0.05)


def tell(name, text=""):
    """A file in /out, whole from its beginning."""
    with open(f"{OUT}/.{name}", "w") as f:
        f.write(text)
    os.rename(f"{OUT}/.{name}", f"{OUT}/{name}")


def told(name):
    return os.path.exists(f"{OUT}/{name}")


def together(name, seconds=60):
    """Both guests get here before either goes on.  A name serves once."""
    tell(f"{name}.{ME}")
    wait_for(lambda: told(f"{name}.{PEER}"), seconds, f"together {name}: the other guest is not there")


def kernel_is_fine():
    log = subprocess.run(["dmesg"], check=True, stdout=subprocess.PIPE).stdout.decode(errors="replace")
    bad = [x for x in log.splitlines() if re.search(r"BUG:|Oops|WARNING:|Call Trace|DMAR:.*fault", x)]
    expect(not bad, "\n".join(bad[:10]))


# -------------------------------------------------------------------- port

def read(path):
    with open(path) as f:
        return f.read().strip()


def pci_find(wanted):
    for path in sorted(glob.glob("/sys/bus/pci/devices/*")):
        if f"{read(path + '/vendor')[2:]}:{read(path + '/device')[2:]}" == wanted:
            return os.path.basename(path)
    raise Failed(f"no PCI function {wanted}")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


class Program:
    def __init__(self, label, popen, log):
        self.label, self.p, self.log = label, popen, log

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def wait(self, seconds=60, status=0):
        try:
            got = self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.label} did not end within {seconds} s; it said:\n{self.text()[-2000:]}") from None
        expect(status is None or got == status, f"{self.label} ended with {got}; it said:\n{self.text()[-2000:]}")
        return self

    def has_said(self, pattern, seconds=60):
        """The line that matches, once it is there."""
        def said():
            lines = [x for x in self.text().splitlines() if re.fullmatch(pattern, x)]
            expect(lines or self.p.poll() is None, f"{self.label} ended with {self.p.poll()}; it said:\n{self.text()[-2000:]}")
            return lines and lines[-1]

        return wait_for(said, seconds, f"{self.label} does not say {pattern}")

    def tell(self, line=""):
        """For one that reads its standard input, a pipe."""
        self.p.stdin.write(f"{line}\n".encode())
        self.p.stdin.flush()

    def stop(self, sig=signal.SIGTERM, seconds=30):
        """Ends it by a signal that it obeys."""
        if self.p.poll() is None:
            self.p.send_signal(sig)
        return self.wait(seconds, None)

    def listening(self, port, seconds=60):
        def somebody():
            expect(self.p.poll() is None, f"{self.label} ended before it listened:\n{self.text()[-2000:]}")
            return any(re.search(r":%04X [0-9A-F:]+ 0A " % port, read(f"/proc/{self.p.pid}/net/{n}")) for n in ("tcp", "tcp6"))

        wait_for(somebody, seconds, f"{self.label} does not listen on port {port}")
        return self


class Host:
    def __init__(self):
        self.mine, self.its = ADDRESS[ME], ADDRESS[PEER]
        self.stats, self.run_dir, self.conf = f"{WORK}/stats", f"{WORK}/ntbsock", f"{WORK}/conf"
        self.bin, self.count, self.broker, self.port = f"{WORK}/bin", 0, None, None
        for d in (self.stats, self.conf, self.bin):
            os.makedirs(d, exist_ok=True)
        # From memory: straight from 9p everything is slower.
        for name in ("libntbsock.so", "ntbsock-ctl", "ntbsockd", "pingpong"):
            shutil.copy(f"{BUILD}/{name}", self.bin)

    def take_port(self):
        """vfio-pci has the function."""
        if "RIG_PORT" in os.environ:
            self.port = os.environ["RIG_PORT"]
            return
        function = pci_find(FUNCTION[BRIDGE])
        for module in ("vfio_iommu_type1", "vfio-pci"):
            subprocess.run(["modprobe", module], check=True)
        self.ctl("bind", function)
        # Guests stand still for long on a busy host, and are not gone.
        self.port = f"{function},silence={SILENCE_MS}"

    def start_broker(self, wait=True):
        with open(f"{self.conf}/nodes.conf", "w") as f:
            f.write(f"{self.its} {NODE[PEER]}\n")
        self.broker = self.start([f"{self.bin}/ntbsockd", "--run-dir", self.run_dir, "--config-dir", self.conf,
                                  "--node", NODE[ME], "--port", self.port, "--log-level", "info"], "broker", ours=False)
        if wait:
            self.link_up(60)

    def link_up(self, seconds):
        def up():
            expect(self.broker.p.poll() is None, f"the broker ended:\n{self.broker.text()[-3000:]}")
            return os.path.exists(f"{self.run_dir}/broker.sock") and self.ctl_json("status")["broker"]["cable"] == "up"

        try:
            wait_for(up, seconds, "the brokers do not meet")
        except Failed as e:
            raise Failed(f"{e}\n{self.broker.text()[-3000:]}") from None

    def session(self):
        """Number of the link's session; 0: there is none."""
        port = self.ctl_json("status")["broker"]["port"]
        return port["session"] if port else 0

    def env(self, label):
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        if not PLAIN:
            env.update(NTBSOCK_RUN_DIR=self.run_dir, NTBSOCK_CONFIG_DIR=self.conf,
                       NTBSOCK_STATS=f"{self.stats}/{label}.%p")
        return env

    def ctl(self, *argv):
        r = subprocess.run([f"{self.bin}/ntbsock-ctl", *argv], env={**self.env("ctl"), "NTBSOCK_STATS": ""},
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=60, check=False)
        expect(r.returncode == 0, f"ntbsock-ctl {' '.join(argv)} ended with {r.returncode}: {r.stdout}")
        return r.stdout

    def ctl_json(self, *argv):
        return json.loads(self.ctl(*argv, "--json"))

    def start(self, argv, label=None, ours=True, stdin=None, stdout=None):
        self.count += 1
        label = label or os.path.basename(argv[0])
        log = f"{WORK}/{self.count:03d}-{label}.log"
        head = [f"{self.bin}/ntbsock-ctl", "run", "--quiet", "--"] if ours and not PLAIN else []
        with open(log, "wb") as f:
            p = subprocess.Popen(head + [str(x) for x in argv], env=self.env(label), cwd=WORK, stdin=stdin or subprocess.DEVNULL,
                                 stdout=stdout or f, stderr=f, preexec_fn=die_with_parent)
        return Program(label, p, log)

    def run(self, argv, seconds=60, **kw):
        """Runs it to its end; what it printed."""
        return self.start(argv, **kw).wait(seconds).text()

    # ---------------------------------------------------------- counters

    def counters(self):
        """Sums over all processes that have ended since the last call."""
        n = {"processes": 0, "accelerated": 0, "fallback": 0, "tx": 0, "rx": 0, "tcp": 0, "lines": 0, "bulk_bytes": 0}
        for path in glob.glob(f"{self.stats}/*"):
            with open(path) as f:
                s = json.load(f)
            os.unlink(path)
            n["processes"] += 1
            n["accelerated"] += s["connections"]["accelerated"]
            # Those not used were over before they could move.
            n["fallback"] += s["connections"]["fallback"]["total"] - s["connections"]["fallback"]["reasons"].get("not-used", 0)
            n["tx"], n["rx"] = n["tx"] + s["tx"]["bytes"], n["rx"] + s["rx"]["bytes"]
            n["tcp"] += s["tcp"]["bytes"]
            for k in ("lines", "bulk_bytes"):
                n[k] += s.get("window", {}).get(k, 0)
        return n


def on_wire():
    """Bytes that have left by the network that is not the bridge: the kernel's word, not ours."""
    return int(read("/sys/class/net/eth0/statistics/tx_bytes")) if os.path.exists("/sys/class/net/eth0") else 0


def connect(address, port, seconds=60):
    """A connection, once somebody listens there."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((address, port), timeout=seconds)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
