# SPDX-License-Identifier: BSD-2-Clause
"""Running one measurement: processes, transports, what they print.

Everything started here is ended here, by the process group that was made for it; a program that does not end in
time is a failed measurement, never a hung bench.  A figure of ntbsock counts only if its bytes went over the
ring: each process under it writes its counters (NTBSOCK_STATS), and a run that was carried by TCP is an error.
"""
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

RING_SHARE_MIN = 0.9    # of the payload; below, a figure is not ntbsock's
BEGIN_BYTES = 128       # an end of a connection may have carried over TCP before it moved: requests of pingpong


class Failed(Exception):
    """A measurement that could not be made, and why."""


def have(program):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return shutil.which(program, path=path)


def median(values):
    v = sorted(values)
    return v[len(v) // 2] if len(v) % 2 else (v[len(v) // 2 - 1] + v[len(v) // 2]) / 2


def listening(port):
    """Is somebody listening on that TCP port?  Without connecting: some servers take one connection only."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as f:
            next(f)
            for line in f:
                word = line.split()
                if word[3] == "0A" and int(word[1].rsplit(":", 1)[1], 16) == port:
                    return True
    return False


class Runner:
    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.tmp = tempfile.mkdtemp(prefix="ntbs-bench-")
        os.chmod(self.tmp, 0o755)
        self.ctl = self.for_every_user("ntbsock-ctl")
        self.lib = self.for_every_user("libntbsock.so")
        self.pingpong_bin = os.path.join(self.build, "pingpong")
        self.limit_bin = os.path.join(self.build, "limit")
        self.cpus = sorted(os.sched_getaffinity(0))[:2]
        self.next_port = 24100
        self.groups = set()
        self.dirs = [self.tmp]
        # figures and programs of our own; UCX speaks shared memory alone
        self.env = dict(os.environ, UCX_TLS="posix,self", UCX_WARN_UNUSED_ENV_VARS="n", LC_ALL="C")
        self.env["NTBSOCK_RUN_DIR"] = os.path.join(self.tmp, "run")
        self.broker = None
        self.env["PATH"] = self.env.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
        self.env.pop("LD_PRELOAD", None)
        self.env.pop("NTBSOCK_STATS", None)

    def for_every_user(self, name):
        """A copy that postgres, too, can run: a clone in /root is out of its reach."""
        path = os.path.join(self.build, name)
        return shutil.copy(path, self.tmp) if os.path.exists(path) else path

    def close(self):
        for group in list(self.groups):
            self.end_group(group)
        for d in self.dirs:
            shutil.rmtree(d, ignore_errors=True)

    def scratch(self, size):
        """A directory with room for that, in memory if there is; gone with the runner."""
        for parent in ("/dev/shm", self.tmp):
            with contextlib.suppress(OSError):
                s = os.statvfs(parent)
                if s.f_bavail * s.f_frsize >= size:
                    d = tempfile.mkdtemp(prefix="ntbs-bench-", dir=parent)
                    self.dirs.append(d)
                    os.chmod(d, 0o755)
                    return d
        raise Failed("no room for %d MB" % (size >> 20))

    def missing(self):
        return [p for p in (self.pingpong_bin, self.limit_bin, self.ctl, self.lib,
                            os.path.join(self.build, "ntbsockd")) if not os.path.exists(p)]

    def port(self):
        """A port that nobody listens on, below the range the kernel hands out."""
        self.next_port += 1
        while listening(self.next_port):
            self.next_port += 1
        return self.next_port

    def start_broker(self, timeout=10):
        """A broker of our own, for all users, without the rules of this machine; for as long as the runner."""
        run, config = self.env["NTBSOCK_RUN_DIR"], os.path.join(self.tmp, "config")
        os.mkdir(config)
        log = tempfile.TemporaryFile(dir=self.tmp)
        self.broker = self.start([os.path.join(self.build, "ntbsockd"), "--run-dir", run, "--config-dir", config],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + timeout
        while not os.path.exists(os.path.join(run, "broker.sock")):
            if self.broker.poll() is not None or time.monotonic() > until:
                log.seek(0)
                last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise Failed("ntbsockd does not start: " + last[0])
            time.sleep(0.01)

    def ntb(self, cmd):
        return [self.ctl, "run", "--quiet", "--"] + cmd

    # ---- processes

    def end_group(self, pid):
        self.groups.discard(pid)
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(pid, sig)
            except ProcessLookupError:
                return
            until = time.monotonic() + 3
            while time.monotonic() < until:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-pid, os.WNOHANG)
                try:
                    os.killpg(pid, 0)
                except ProcessLookupError:
                    return
                time.sleep(0.01)

    def start(self, cmd, cpu=None, env=None, **kw):
        p = subprocess.Popen(cmd, env=env or self.env, start_new_session=True,
                             preexec_fn=(lambda: os.sched_setaffinity(0, {cpu})) if cpu is not None else None, **kw)
        self.groups.add(p.pid)
        return p

    def output(self, cmd, timeout=60, cpu=None, env=None, ok=(0,), **kw):
        """Standard output of a program that ends by itself."""
        p = self.start(cmd, cpu, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
        try:
            out, err = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.end_group(p.pid)
            p.communicate()
            raise Failed("%s: no end after %d s" % (" ".join(cmd[:6]), timeout)) from None
        finally:
            self.end_group(p.pid)
        if p.returncode not in ok:
            last = (err.strip() or out.strip()).splitlines()[-1:] or ["it said nothing"]
            raise Failed("%s: exit status %d: %s" % (" ".join(cmd[:6]), p.returncode, last[0]))
        return out

    @contextlib.contextmanager
    def server(self, cmd, port, cpu=None, env=None, timeout=20):
        """A server, from when it listens to the end of the block."""
        log = tempfile.TemporaryFile(dir=self.tmp)
        p = self.start(cmd, cpu, env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until = time.monotonic() + timeout
            while not listening(port):
                if p.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                    raise Failed("%s does not listen: %s" % (" ".join(cmd[:6]), last[0]))
                time.sleep(0.01)
            yield p
        finally:
            with contextlib.suppress(ProcessLookupError):
                p.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(5)
            self.end_group(p.pid)
            log.close()

    # ---- ntbsock's counters

    @contextlib.contextmanager
    def stats(self):
        """Yields an environment for programs under ntbsock and a dict that is filled in after they have ended."""
        d = tempfile.mkdtemp(dir=self.tmp)
        os.chmod(d, 0o777)
        result = {}
        yield dict(self.env, NTBSOCK_STATS=os.path.join(d, "%p.json")), result
        ring = tcp = accelerated = 0
        why = {}
        for name in glob.glob(d + "/*.json"):
            try:
                with open(name) as f:
                    s = json.load(f)
            except (OSError, ValueError):
                continue
            ring += s.get("tx", {}).get("bytes", 0) + s.get("rx", {}).get("bytes", 0)
            tcp += s.get("tcp", {}).get("bytes", 0)
            accelerated += s.get("connections", {}).get("accelerated", 0)
            for k, v in s.get("connections", {}).get("fallback", {}).get("reasons", {}).items():
                why[k] = why.get(k, 0) + v
        result.update(ring_bytes=ring, tcp_bytes=tcp, accelerated=accelerated, fallback=why,
                      share=ring / (ring + tcp) if ring + tcp else 0.0,
                      settled=ring / (ring + max(0, tcp - BEGIN_BYTES * accelerated)) if ring else 0.0)

    def check_share(self, stats):
        if stats["settled"] < RING_SHARE_MIN:
            raise Failed("only %.1f %% of the bytes went over the ring (%d connections accelerated%s)" % (
                100 * stats["share"], stats["accelerated"],
                ", the others: " + str(stats["fallback"]) if stats["fallback"] else ""))

    # ---- measurements

    def limit(self, *args):
        out = json.loads(self.output([self.limit_bin, "--json", "--cpus", "%d,%d" % tuple(self.cpus), *args]))
        return out["results"]

    def pingpong(self, transport, *args, timeout=60, share=True):
        """Results of `pingpong both` over "tcp", "unix" or "ntb"."""
        cmd = [self.pingpong_bin, "both", "--json", *args]
        if transport == "unix":
            cmd += ["-u", os.path.join(self.tmp, "pp.sock")]
        if transport != "ntb":
            return json.loads(self.output(cmd, timeout))["results"]
        with self.stats() as (env, stats):
            out = self.output(self.ntb(cmd), timeout, env=env)
        if share:
            self.check_share(stats)
        return json.loads(out)["results"]

    def ucx(self, test, size, count):
        port = self.port()
        with self.server(["ucx_perftest", "-p", str(port)], port, self.cpus[0]):
            out = self.output(["ucx_perftest", "127.0.0.1", "-p", str(port), "-t", test, "-s", str(size), "-n",
                               str(count), "-w", str(count // 10 + 1), "-f"], 30, self.cpus[1])
        numbers = [line.split() for line in out.splitlines() if line.split() and line.split()[0].isdigit()]
        if not numbers or len(numbers[-1]) < 6:
            raise Failed("ucx_perftest printed no figures")
        n = [float(x) for x in numbers[-1]]
        return {"median_us": n[1], "MBps": n[5]}    # columns of ucx_perftest 1.13: MB is 2^20

    def libfabric(self, size, count):
        port = self.port()
        args = ["fi_pingpong", "-p", "shm", "-e", "rdm", "-m", "tagged", "-S", str(size), "-I", str(count)]
        with self.server(args + ["-B", str(port)], port, self.cpus[0]):
            out = self.output(args + ["-P", str(port), "127.0.0.1"], 30, self.cpus[1])
        last = out.strip().splitlines()[-1].split()
        if len(last) != 8:
            raise Failed("fi_pingpong printed no figures")
        return float(last[6])    # usec/xfer, one way
