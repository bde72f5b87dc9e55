# SPDX-License-Identifier: BSD-2-Clause
"""Real programs over TCP loopback and over ntbsock: rows 13 and 14.

Each function makes one measurement of one program pair, with the server pinned to one CPU and the client to the
other where that is what the row says, and returns operations (or bytes) a second.
"""
import glob
import json
import os
import pwd
import re
import time

import ftpsite
from bench_run import Failed, have, median

FTP_SIZES = (19090223, 145864380)
FTP_TIMES = 3       # transfers a session; the median counts


def pick(pattern, text, what):
    m = re.search(pattern, text)
    if not m:
        raise Failed("%s printed no figure" % what)
    return float(m.group(1))


def megabytes(size):
    return "%d MB" % round(size / 1e6)


class Apps:
    def __init__(self, runner, seconds):
        self.r = runner
        self.seconds = seconds
        self.pgdata = None
        self.site = None
        self.cp = {}        # as rows name a size: (bytes, seconds that a local copy takes)

    def pair(self, transport, server, port, client, cpus=(None, None), timeout=120, wrap=(), **kw):
        """Server, with something before it, and client, both under the transport; the client's output."""
        r, wrap = self.r, list(wrap)
        if transport == "tcp":
            with r.server(wrap + server, port, cpus[0]):
                return r.output(client, timeout, cpus[1], **kw)
        with r.stats() as (env, stats):
            with r.server(wrap + self.under(server), port, cpus[0], env=env):
                out = r.output(self.under(client), timeout, cpus[1], env=env, **kw)
        r.check_share(stats)
        return out

    def under(self, cmd):
        """ntbsock-ctl run goes behind a change of user, in front of everything else."""
        if cmd[0] == "runuser":
            at = cmd.index("--") + 1
            return cmd[:at] + self.r.ntb(cmd[at:])
        return self.r.ntb(cmd)

    # ---- redis

    def redis(self, transport, clients, pipeline, count, one_core=False):
        port, r = self.r.port(), self.r
        server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                  "--dir", r.tmp]
        client = ["redis-benchmark", "-p", str(port), "-t", "get", "-c", str(clients), "-P", str(pipeline), "-n",
                  str(count), "--csv"]
        cpus = (r.cpus[0], r.cpus[0] if one_core else r.cpus[1])
        return pick(r'"GET","([0-9.]+)"', self.pair(transport, server, port, client, cpus), "redis-benchmark")

    # ---- memcached

    def memcached(self, transport, clients):
        port, r = self.r.port(), self.r
        server = ["memcached", "-p", str(port), "-l", "127.0.0.1", "-U", "0", "-t", "1"]
        if os.geteuid() == 0:
            server += ["-u", "root"]
        client = ["memcaslap", "-s", "127.0.0.1:%d" % port, "-T", "1", "-c", str(clients), "-X", "64", "-t",
                  "%ds" % max(1, round(self.seconds))]
        return pick(r"TPS: ([0-9]+)", self.pair(transport, server, port, client, r.cpus), "memcaslap")

    # ---- nginx

    def nginx(self, transport, size):
        port, r = self.r.port(), self.r
        root = os.path.join(r.tmp, "www")
        os.makedirs(root, exist_ok=True)
        with open(os.path.join(root, "f%d" % size), "wb") as f:
            f.write(os.urandom(size))
        conf = os.path.join(r.tmp, "nginx-%d.conf" % port)
        with open(conf, "w") as f:
            f.write("daemon off; worker_processes 1; pid %s/nginx-%d.pid; error_log %s/nginx.log;\n"
                    % (r.tmp, port, r.tmp))
            if os.geteuid() == 0:
                f.write("user root;\n")
            temp = "".join(" %s_temp_path %s/nginx-%s;" % (t, r.tmp, t)
                           for t in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            f.write("events { worker_connections 1024; }\nhttp { access_log off; keepalive_requests 100000000;%s\n"
                    "server { listen 127.0.0.1:%d; root %s; } }\n" % (temp, port, root))
        server = [have("nginx"), "-e", os.path.join(r.tmp, "nginx.log"), "-c", conf]
        client = ["wrk", "-t1", "-c16", "-d%gs" % max(1, round(self.seconds)),
                  "http://127.0.0.1:%d/f%d" % (port, size)]
        out = self.pair(transport, server, port, client, r.cpus)
        if "Non-2xx" in out:
            raise Failed("nginx answered with errors")
        return pick(r"Requests/sec:\s+([0-9.]+)", out, "wrk")

    # ---- iperf3

    def iperf3(self, transport, write):
        port, r = self.r.port(), self.r
        out = self.pair(transport, ["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)], port,
                        ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(max(1, round(self.seconds))), "-l",
                         str(write), "-J"], r.cpus)
        return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 8

    # ---- PostgreSQL; refuses to run as root

    @staticmethod
    def pg_bin():
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        return os.path.dirname(found[-1]) if found else None

    def as_postgres(self, cmd):
        return ["runuser", "-u", "postgres", "--"] + cmd if os.geteuid() == 0 else cmd

    def pg_server(self, port):
        return self.as_postgres([self.pg_bin() + "/postgres", "-D", self.pgdata, "-p", str(port), "-c",
                                 "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + self.pgdata,
                                 "-c", "fsync=off"])

    def pg_prepare(self):
        r = self.r
        self.pgdata = os.path.join(r.tmp, "pg")
        os.mkdir(self.pgdata, 0o700)
        if os.geteuid() == 0:
            u = pwd.getpwnam("postgres")
            os.chown(self.pgdata, u.pw_uid, u.pw_gid)
        kw = {"cwd": "/"}
        r.output(self.as_postgres([self.pg_bin() + "/initdb", "-D", self.pgdata, "-A", "trust", "-U", "postgres",
                                   "--no-sync"]), 120, **kw)
        port = r.port()
        with r.server(self.pg_server(port), port):
            r.output(self.as_postgres(["pgbench", "-h", self.pgdata, "-p", str(port), "-U", "postgres", "-i", "-q",
                                       "postgres"]), 120, **kw)

    def pgbench(self, transport, clients):
        if not self.pgdata:
            self.pg_prepare()
        port = self.r.port()
        client = self.as_postgres(["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-n", "-S", "-c",
                                   str(clients), "-T", str(max(1, round(self.seconds))), "postgres"])
        return pick(r"tps = ([0-9.]+)", self.pair(transport, self.pg_server(port), port, client), "pgbench")

    # ---- FTP, as in SOVIA's table; files in memory, so that no disk decides

    def ftp_prepare(self):
        self.ftp_dir = self.r.scratch(8 * max(FTP_SIZES))
        self.site = ftpsite.Site(os.path.join(self.ftp_dir, "site"))
        for size in FTP_SIZES:
            path, copy = os.path.join(self.site.home, "%d" % size), os.path.join(self.ftp_dir, "copy")
            with open(path, "wb") as f:
                for at in range(0, size, 1 << 20):
                    f.write(os.urandom(min(size - at, 1 << 20)))
            os.chmod(path, 0o644)
            took = []
            for _ in range(5):
                began = time.monotonic()
                self.r.output(["cp", path, copy])
                took.append(time.monotonic() - began)
                os.unlink(copy)
            self.cp[megabytes(size)] = size, median(took)

    def ftp(self, transport, direction, size):
        if not self.site:
            self.ftp_prepare()
        port, got, put = self.r.port(), os.path.join(self.ftp_dir, "got"), "incoming/put"
        if direction == "get":
            commands = ["get %d %s" % (size, got)] * FTP_TIMES
        else:
            commands = ["put %s %s" % (os.path.join(self.site.home, "%d" % size), put)] * FTP_TIMES
        script = os.path.join(self.ftp_dir, "commands")
        with open(script, "w") as f:
            f.write(ftpsite.session(port, commands))
        with open(script) as f:
            out = self.pair(transport, self.site.socat(port), port, ["tnftp", "-n", "-v"], wrap=self.site.inside(), stdin=f)
        for path in (got, os.path.join(self.site.home, put)):
            if os.path.exists(path):
                if os.path.getsize(path) != size:
                    raise Failed("ftp %s: %d bytes came of %d" % (direction, os.path.getsize(path), size))
                os.unlink(path)
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
        rates = [float(n) * unit[u] for n, u in re.findall(r"bytes (?:sent|received) in .*\(([0-9.]+) ([KMG])iB/s\)", out)]
        if len(rates) != FTP_TIMES:
            raise Failed("tnftp printed %d figures, not %d" % (len(rates), FTP_TIMES))
        return median(rates)

    # ---- which there are

    def all(self, quick):
        """
        (row, name, threshold, function of the transport) for each that is installed, and names of what is missing.
        Without a threshold it is no row and stands in a table of its own.
        """
        out, missing = [], []

        def need(programs, entries):
            lacking = [p for p in programs if not (have(p) or p == "postgres" and self.pg_bin())]
            if lacking:
                missing.append("%s not installed" % ", ".join(lacking))
            else:
                out.extend(entries)

        s = self.seconds
        need(("redis-server", "redis-benchmark"), [
            ("13", "redis GET -c 1, two cores", 3.0, lambda t: self.redis(t, 1, 1, int(30000 * s))),
            ("13", "redis GET -c 1, one core", 1.0, lambda t: self.redis(t, 1, 1, int(40000 * s), True)),
            ("14", "redis GET -c 50", 1.0, lambda t: self.redis(t, 50, 1, int(80000 * s))),
            ("14", "redis GET -c 50 -P 16", 1.0, lambda t: self.redis(t, 50, 16, int(800000 * s)))])
        if quick:
            return out, missing
        need(("memcached", "memcaslap"), [
            ("14", "memcached, 8 clients", 1.0, lambda t: self.memcached(t, 8))])
        need(("nginx", "wrk"), [
            ("14", "nginx 1 KiB keep-alive, 16", 1.0, lambda t: self.nginx(t, 1024)),
            ("14", "nginx 1 MiB keep-alive, 16", 1.0, lambda t: self.nginx(t, 1 << 20))])
        need(("postgres", "pgbench", "runuser"), [
            ("14", "pgbench -S, 1 client", 1.0, lambda t: self.pgbench(t, 1)),
            ("14", "pgbench -S, 8 clients", 1.0, lambda t: self.pgbench(t, 8))])
        need(("iperf3",), [
            ("14", "iperf3, 128 KiB writes", 1.0, lambda t: self.iperf3(t, 131072)),
            ("14", "iperf3, 1 MiB writes", 1.0, lambda t: self.iperf3(t, 1 << 20))])
        if os.geteuid():
            missing.append("ftp: needs root")
        else:
            need((*ftpsite.PROGRAMS, "socat"), [
                ("14", "ftp %s, %s" % (direction, megabytes(size)), 1.0 if size == max(FTP_SIZES) else None,
                 lambda t, d=direction, s=size: self.ftp(t, d, s))
                for size in FTP_SIZES for direction in ("get", "put")])
        return out, missing
