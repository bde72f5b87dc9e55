# SPDX-License-Identifier: BSD-2-Clause
"""syslib.py - what the system tests share: a broker of their own, programs under ntbsock-ctl run, counters, witness

A test gets a Rig and describes what it runs; leaving the "with" block stops every program, in the order last
started first, also when the test has failed.  NTBS_PLAIN=1 runs the programs as they are, on kernel TCP, and leaves
out what only ntbsock can show: that is how a test itself is tested."""

import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SRC = os.environ.get("T_SRC") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("T_BUILD") or os.path.join(SRC, "build")
PLAIN = bool(os.environ.get("NTBS_PLAIN"))
SOAK = bool(os.environ.get("NTBS_SOAK"))
os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


class Failed(Exception):
    pass


def skip(why):
    print("SKIP", why)
    sys.exit(77)


def need(*commands, root=False):
    """Skips, with the reason, if something is not installed or we are not root."""
    for c in commands:
        if not shutil.which(c):
            skip(f"{c} is not installed")
    if root and os.geteuid():
        skip("needs root")


def check(ok, why):
    if not ok:
        raise Failed(why)


def free_port():
    """Nobody's, and below those that the kernel gives to anybody's connections until the program has bound it."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(10000, 32000)))
                return s.getsockname()[1]
            except OSError:
                pass


def sha(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def random_file(path, size):
    with open(path, "wb") as f:
        while size > 0:
            f.write(os.urandom(min(size, 1 << 20)))
            size -= 1 << 20
    return sha(path)


class Program:
    def __init__(self, rig, label, popen, log):
        self.rig, self.label, self.p, self.log = rig, label, popen, log

    @property
    def pid(self):
        return self.p.pid

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def wait(self, seconds=60, status=0):
        """Its end, which must come in time and with this exit status (None: any)."""
        try:
            got = self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.label} did not end within {seconds} s; it said:\n{self.text()[-2000:]}") from None
        check(status is None or got == status, f"{self.label} ended with {got}, not {status}; it said:\n{self.text()[-2000:]}")
        return self

    def stop(self, sig=signal.SIGTERM, seconds=15):
        """Ends it by a signal it obeys; must it be killed, the test has failed."""
        if self.p.poll() is None:
            self.p.send_signal(sig)
            try:
                self.p.wait(seconds)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
                raise Failed(f"{self.label} did not end within {seconds} s of signal {sig}:\n{self.text()[-2000:]}") from None
        return self.p.returncode

    def listening(self, port, seconds=20):
        """Waits until somebody listens on @port in the program's network namespace, without connecting to it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            check(self.p.poll() is None, f"{self.label} ended with {self.p.returncode} before it listened:\n{self.text()[-2000:]}")
            for name in ("tcp", "tcp6"):
                try:
                    with open(f"/proc/{self.pid}/net/{name}") as f:
                        if re.search(r":%04X [0-9A-F:]+ 0A " % port, f.read()):
                            return self
                except OSError:
                    pass
            time.sleep(0.02)
        raise Failed(f"{self.label} does not listen on port {port} after {seconds} s:\n{self.text()[-2000:]}")


class Rig:
    def __init__(self):
        self.own_dir = not os.environ.get("T_DIR")
        self.dir = os.environ.get("T_DIR") or tempfile.mkdtemp(prefix="ntbsock-sys.")
        os.chmod(self.dir, 0o755)
        self.programs, self.count = [], 0
        # A directory that every user may reach, as a checkout below /root is not.
        self.bin = self.path("bin")
        os.mkdir(self.bin)
        if not PLAIN:
            for name in ("libntbsock.so", "ntbsock-ctl", "ntbsockd"):
                check(os.path.exists(os.path.join(BUILD, name)), f"{BUILD}/{name} is missing: run make")
                shutil.copy(os.path.join(BUILD, name), self.bin)
        self.stats = self.path("stats")
        self.seen = self.path("seen")
        for d in (self.stats, self.seen):
            os.mkdir(d)
            os.chmod(d, 0o1777)
        self.witness_lib = None
        self.brokers = {}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def __enter__(self):
        self.broker()
        return self

    def __exit__(self, kind, value, tb):
        for p in reversed(self.programs):
            if p.p.poll() is None:
                try:
                    os.killpg(p.pid, signal.SIGKILL)
                except OSError:
                    p.p.kill()
                p.p.wait()
        if kind is Failed:
            for p in self.programs:
                tail = "\n".join(p.text().strip().splitlines()[-6:])
                if tail:
                    print(f"--- {p.label} (status {p.p.returncode}) said:\n{tail[-800:]}")
            print("FAILED:", value)
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        if kind is Failed:
            sys.exit(1)
        return False

    # ---------------------------------------------------------------- running

    def broker(self, name="host", options=(), wrap=()):
        """Starts a broker and waits for its word that it is ready."""
        if PLAIN:
            return None
        run, conf = self.path("run-" + name), self.path("conf-" + name)
        for d in (run, conf):
            os.makedirs(d, exist_ok=True)
            os.chmod(d, 0o755)
        ready, told = os.pipe()
        p = self.start(["%s/ntbsockd" % self.bin, "--run-dir", run, "--config-dir", conf, "--ready-fd", str(told), *options],
                       label="broker-" + name, ours=False, wrap=wrap, pass_fds=[told])
        os.close(told)
        came = os.read(ready, 1)
        os.close(ready)
        check(came, "the broker did not come up:\n" + p.text())
        self.brokers[name] = p
        return p

    def env(self, label, broker="host", witness=False, ours=True, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("NTBSOCK_", "WITNESS"))}
        env["LC_ALL"] = "C.UTF-8"
        if ours and not PLAIN:
            env["NTBSOCK_RUN_DIR"] = self.path("run-" + broker)
            env["NTBSOCK_CONFIG_DIR"] = self.path("conf-" + broker)
            env["NTBSOCK_STATS"] = os.path.join(self.stats, label + ".%p")
        if witness:
            if not self.witness_lib:
                self.witness_lib = shutil.copy(os.path.join(BUILD, "test/sys/witness.so"), self.bin)
            env["LD_PRELOAD"] = self.witness_lib
            env["WITNESS"] = os.path.join(self.seen, label + ".%p")
        env.update(extra or {})
        return env

    def lib(self):
        return "%s/libntbsock.so" % self.bin

    def command(self, argv, ours=True, broker="host", witness=False, user=None, wrap=()):
        """The whole command: another namespace, another user, under ntbsock-ctl run."""
        head = list(wrap)
        if user:
            head += ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        if ours and not PLAIN:
            head += ["%s/ntbsock-ctl" % self.bin, "run", "--quiet", "--"]
            if witness:
                # ours was put in front of the witness: the other way round
                head += ["env", "LD_PRELOAD=%s:%s" % (self.witness_lib, self.lib())]
        return head + [str(x) for x in argv]

    def start(self, argv, label=None, ours=True, broker="host", witness=False, user=None, wrap=(), extra=None, cwd=None, stdin=None,
              stdout=None, pass_fds=()):
        self.count += 1
        label = label or os.path.basename(argv[0])
        log = self.path(f"{self.count:03d}-{label}.log")
        env = self.env(label, broker, witness, ours, extra)
        with open(log, "wb") as f:
            p = subprocess.Popen(self.command(argv, ours, broker, witness, user, wrap), env=env, cwd=cwd or self.dir,
                                 stdin=stdin or subprocess.DEVNULL, stdout=stdout or f, stderr=f, start_new_session=True,
                                 pass_fds=pass_fds)
        prog = Program(self, label, p, log)
        self.programs.append(prog)
        return prog

    def run(self, argv, seconds=60, status=0, **kw):
        """Runs it to its end; what it printed."""
        return self.start(argv, **kw).wait(seconds, status).text()

    def ctl(self, *argv, broker="host"):
        """What ntbsock-ctl says, as JSON."""
        out = subprocess.run(["%s/ntbsock-ctl" % self.bin, *argv, "--json"], env=self.env("ctl", broker), capture_output=True,
                             text=True, timeout=20)
        check(out.returncode == 0, f"ntbsock-ctl {' '.join(argv)} ended with {out.returncode}: {out.stderr}")
        return json.loads(out.stdout)

    # --------------------------------------------------------------- counters

    def counters(self, label="*"):
        """Sums over all processes of a label that have ended: bytes on the ring, on TCP, connections."""
        total = {"ring": 0, "tx": 0, "rx": 0, "tcp": 0, "accelerated": 0, "fallback": 0, "reasons": {}, "processes": 0, "raw": []}
        for path in sorted(glob.glob(os.path.join(self.stats, label + ".*"))):
            with open(path) as f:
                text = f.read()
            try:
                s = json.loads(text)
                total["tx"] += s["tx"]["bytes"]
                total["rx"] += s["rx"]["bytes"]
                total["tcp"] += s["tcp"]["bytes"]
                total["accelerated"] += s["connections"]["accelerated"]
                fb = s["connections"]["fallback"]
                total["fallback"] += fb["total"]
                for k, v in fb["reasons"].items():
                    total["reasons"][k] = total["reasons"].get(k, 0) + v
            except (ValueError, KeyError, TypeError) as e:
                raise Failed(f"{path} is not what ntbsock(7) says ({e!r}): {text[:300]}") from None
            total["processes"] += 1
            total["raw"].append(s)
        total["ring"] = total["tx"] + total["rx"]
        return total

    def share(self, label="*", least=0.99, what="", fallback=0):
        """At least that share of the payload has gone over the ring, and no more connections than that stayed on TCP;
        least=None only reports."""
        if PLAIN:
            return None
        c = self.counters(label)
        check(c["processes"], f"no process of '{label}' wrote its counters: the library was not there, or the program was killed")
        whole = c["ring"] + c["tcp"]
        share = c["ring"] / whole if whole else 0.0
        text = (f"{what or label}: {share:.2%} of {whole:,} bytes over the ring, {c['accelerated']} connections accelerated, "
                f"not: {c['reasons']}")
        print(text)
        if least is not None:
            check(whole and share >= least, text + f"; at least {least:.0%} was expected")
            stayed = c["fallback"] - c["reasons"].get("not-used", 0)    # those were over before they could move
            check(stayed <= fallback, text + f"; {stayed} connections stayed on TCP, {fallback} may")
        return share

    def forget_counters(self):
        for d in (self.stats, self.seen):
            for path in glob.glob(os.path.join(d, "*")):
                os.unlink(path)

    # ------------------------------------------------------------ what is left

    def with_our_library(self):
        """Processes that have this rig's library mapped; their environment they may have overwritten."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/maps") as f:
                        if self.lib() in f.read():
                            with open(f"/proc/{entry}/cmdline") as g:
                                found[int(entry)] = g.read().replace("\0", " ").strip()[:100]
                except OSError:
                    pass
        return found

    def nothing_left(self, what="programs", broker="host", seconds=5):
        """All programs have ended, as the test has told them to: no process of theirs, no connection, no client of the
        broker and no memory in its hands is left.  Their children may take a moment to follow."""
        if PLAIN:
            return
        left, end = "", time.monotonic() + seconds
        while True:
            broker_pid = self.brokers[broker].pid
            fds = []
            for fd in os.listdir(f"/proc/{broker_pid}/fd"):
                try:
                    fds.append(os.readlink(f"/proc/{broker_pid}/fd/{fd}"))
                except OSError:
                    pass
            memory = sorted({x.split()[0] for x in fds if re.match(r"/memfd:ntbsock-(channel|state)", x)})
            running = [f"{p.label} ({p.pid})" for p in self.programs if p.p.poll() is None and p not in self.brokers.values()]
            left = {"running": running, "processes": self.with_our_library(),
                    "clients": self.ctl("status", broker=broker)["broker"]["processes"],
                    "connections": self.ctl("connections", broker=broker)["connections"], "memory": memory}
            if not any(left.values()):
                print(f"nothing left behind by {what}")
                return
            if time.monotonic() > end:
                raise Failed(f"left behind by {what}: " + ", ".join(f"{k} {v}" for k, v in left.items() if v)[:1500])
            time.sleep(0.05)

    # ---------------------------------------------------------------- witness

    def flows(self, label):
        """Connections a program has seen: {(local, remote): [(tx bytes, hash, rx bytes, hash), ...]}"""
        out = {}
        for path in glob.glob(os.path.join(self.seen, label + ".*")):
            with open(path) as f:
                for line in f:
                    local, remote, _, tb, th, _, rb, rh = line.split()
                    out.setdefault((local, remote), []).append((int(tb), th, int(rb), rh))
        return out

    def compare(self, one, other, unread_ok=False):
        """What each side handed to its calls is what the other got from its own, connection by connection.
        unread_ok: a side may leave bytes unread at its end (then their hash cannot agree, and only lengths are bounded)."""
        a, b = self.flows(one), self.flows(other)
        check(a, f"the witness of {one} saw no connection")
        wrong, pairs, payload = [], 0, 0
        for (local, remote), mine in sorted(a.items()):
            theirs = b.get((remote, local))
            if not theirs:
                wrong.append(f"{local}-{remote}: not seen by {other}")
                continue
            for m, t in zip(mine, theirs):
                for name, (sb, sh), (rb, rh) in (("sent", m[:2], t[2:]), ("received", t[:2], m[2:])):
                    if unread_ok and rb < sb:
                        continue
                    if (sb, sh) != (rb, rh):
                        wrong.append(f"{local}-{remote} {name} by {one}: {sb} bytes {sh} went in, {rb} bytes {rh} came out")
                pairs += 1
                payload += m[0] + m[2]
        return pairs, payload, wrong

    def same(self, one, other, **kw):
        pairs, payload, wrong = self.compare(one, other, **kw)
        check(not wrong, f"the witnesses of {one} and {other} disagree:\n" + "\n".join(wrong[:10]))
        print(f"witness: {pairs} connections between {one} and {other}, {payload:,} bytes, the same at both ends")
        return pairs


def main(test):
    """Runs test(rig); its failure is one line and exit status 1."""
    try:
        with Rig() as rig:
            test(rig)
    except Failed as e:
        print("FAILED:", e)
        sys.exit(1)
