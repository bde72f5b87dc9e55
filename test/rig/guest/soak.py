#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""soak.py - guest b, or its broker, or the link, goes and comes back, again and again, under load; a watches

    RIG_EVENTS="kill reboot link broker ..."    what happens, in this order

    kill        b loses its power, and is started again (suite.py does it)
    reboot      b resets itself without a word to anybody
    link        the link goes down for a second (suite.py does it, where the bridge has such a thing)
    broker      b's broker is killed with -9, and started again
    mute        b's broker is stopped for longer than silence lasts, and then goes on as if nothing had been
    late        as broker, while what a stores arrives late (a model whose windows are trapped)

In a load.py keeps three connections to b, as a program would that connects again when it has lost one.  After each event
each connection must be at work within LIMIT seconds, be it the old one or a new one; those that are then made must be on
the ring, for one that has gone back to TCP stays there.  What a connection has met must be what TCP gives in that case;
and never a byte that is not its own: no end of file, for nobody has closed, and nothing of another connection or a former
session.  RIG_PLAIN=1: the same on TCP alone, which says what that is."""

import os
import signal
import time

from guestlib import ADDRESS, HERE, ME, OUT, PLAIN, SILENCE_MS, Checks, Host, expect, kernel_is_fine, tell, told, wait_for

EVENTS = os.environ["RIG_EVENTS"].split()
PORT = 7300
LIMIT = 90
KINDS = ("echo", "sink", "source")
# What TCP gives whose peer is gone, with the options that load.py sets.  Link and broker are nothing to TCP; but what a window
# had under way when it closed is lost, and both ends can only agree by it where TCP is to go on: a connection may be reset
# (ntbsockd(8)), until streams survive that.  Linux resets the function of a broker that has died, so that is the same.
GONE = {"ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH"}
RESET = {"ECONNRESET", "EPIPE"}
MEETS = {"kill": GONE, "reboot": GONE, "link": RESET, "broker": RESET, "mute": RESET, "late": RESET}
WRONG = f"{OUT}/wrong"


# ------------------------------------------------------------------ guest b

def broker_event(host, kind):
    if kind in ("broker", "late"):
        host.broker.stop(signal.SIGKILL)
        time.sleep(0.5)
        host.start_broker(wait=False)
    elif kind == "mute":
        host.broker.p.send_signal(signal.SIGSTOP)
        time.sleep(SILENCE_MS / 1000 + 1)
        host.broker.p.send_signal(signal.SIGCONT)


def guest_b(host):
    """One life of it; suite.py counts what the last one says."""
    life = next(n for n in range(1, 1000) if not told(f"life.{n}"))
    tell(f"life.{life}")
    if not PLAIN:
        host.take_port()
        host.start_broker(wait=False)
        wait_for(lambda: os.path.exists(f"{host.run_dir}/broker.sock"), 20, "the broker does not start")
    server = host.start(["python3", f"{HERE}/load.py", "server", ADDRESS["b"], PORT, WRONG], "server").listening(PORT)
    print(f"b is at work, life {life}", flush=True)
    done = {n for n in range(len(EVENTS)) if told(f"asked.{n}")}
    while not told("end.a"):
        expect(server.p.poll() is None, f"the server ended:\n{server.text()[-3000:]}")
        for n, kind in enumerate(EVENTS):
            if n in done or not told(f"asked.{n}"):
                continue
            done.add(n)
            print(f"b: event {n}, {kind}", flush=True)
            if kind == "reboot":
                with open("/proc/sysrq-trigger", "w") as f:
                    f.write("b")
            if kind == "late":
                wait_for(lambda: told(f"late.{n}"), 20, "nothing is late")
            if kind in ("broker", "late", "mute"):
                broker_event(host, kind)
                tell(f"done.{n}")
        time.sleep(0.05)
    check = Checks(2)
    check("the server has served all to the end", server.stop)
    check("the kernel has nothing to complain of", kernel_is_fine)
    check.finish()


# ------------------------------------------------------------------ guest a

class Load:
    """The client, and what it says."""

    def __init__(self, host):
        self.host = host
        self.program = host.start(["python3", f"{HERE}/load.py", "client", ADDRESS["b"], PORT], "load")
        self.log, self.rest, self.said = open(self.program.log), "", []

    def lines(self):
        """All that it has said until now; hours are a lot, so only what is new is read."""
        *whole, self.rest = (self.rest + self.log.read()).split("\n")
        self.said += whole
        return self.said

    def at_work(self, since):
        """After the line @since each has moved bytes by a connection that has not ended."""
        expect(self.program.p.poll() is None, f"the load ended:\n{self.program.text()[-2000:]}")
        did = {}
        for line in self.lines()[since:]:
            word = line.split()
            if word[0] == "end":
                did.pop(word[1], None)
            elif word[2:3] == ["did"]:
                did.setdefault(word[0], []).append(int(word[3]))
        return all(k in did and did[k][-1] > did[k][0] for k in KINDS)

    def ends(self, since):
        """How connections have ended after the line @since: [(name, how)]"""
        return [(word[1], " ".join(word[3:-1])) for word in map(str.split, self.lines()[since:]) if word[0] == "end"]

    def bytes(self):
        """Of each connection that is on the ring: what its ring and what its TCP has carried."""
        found = self.host.ctl_json("connections", "--port", str(PORT))["connections"]
        return {c["local"]["port"]: tuple(sum(c[d][way] for d in ("tx", "rx")) for way in ("ring_bytes", "tcp_bytes"))
                for c in found if c["on_ring"]}

    def on_ring(self, seconds):
        """All three are there, and nowhere else: between two looks the ring carries bytes, and TCP none."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self.bytes()
            time.sleep(0.5)
            after = self.bytes()
            if len(before) == len(KINDS) and all(p in after and after[p][0] > before[p][0] and after[p][1] == before[p][1]
                                                 for p in before):
                return True
        return False

    def renew(self, late=()):
        """Others in the place of all; only what they meet from then on is of interest.  @late: what may only now end one of
        them that only sends, and has not noticed the event."""
        mark = len(self.lines())
        self.program.p.send_signal(signal.SIGUSR1)
        wait_for(lambda: len(self.ends(mark)) >= len(KINDS), LIMIT, "they do not end")
        ends = self.ends(mark)
        expect(all(how == "closed" or (name == "sink" and how in late) for name, how in ends), f"they close otherwise: {ends}")
        wait_for(lambda: self.at_work(mark), LIMIT, f"the load hangs: {self.lines()[mark:][-12:]}")


def strike(host, load, n, kind):
    """One event, and what comes of it."""
    mark, session = len(load.lines()), None if PLAIN else host.session()
    print(f"EVENT {n} {kind}", flush=True)
    tell(f"asked.{n}")
    if kind == "reboot":
        life = next(x for x in range(1, 1000) if not told(f"life.{x}"))
        wait_for(lambda: told(f"life.{life}"), LIMIT, "b has not come back")
    else:
        wait_for(lambda: told(f"done.{n}"), LIMIT, "it has not happened")
    happened, start = len(load.lines()), time.monotonic()
    wait_for(lambda: load.at_work(happened), LIMIT, f"the load hangs: {load.lines()[mark:][-12:]}")
    work, ends = time.monotonic() - start, load.ends(mark)
    if not PLAIN:
        host.link_up(LIMIT)
    link = time.monotonic() - start
    load.renew(MEETS[kind])
    while not PLAIN and not load.on_ring(10):
        # They were made before b's server had found its new broker, and stay on TCP.  Others, then.
        expect(time.monotonic() < start + LIMIT, f"new connections are not on the ring: {load.bytes()}")
        load.renew()
    ring = time.monotonic() - start
    print(f"event {n}, {kind}: {', '.join(f'{name} {how}' for name, how in ends) or 'all connections went on'}; at work after "
          f"{work:.1f} s, the link up after {link:.1f} s, "
          f"the ring after {ring:.1f} s", flush=True)
    bad = [f"{name}: {how}" for name, how in ends if how not in MEETS[kind]]
    expect(not bad, f"{kind}: what TCP would not have done: {bad}")
    expect(not told("wrong"), "b has received wrong bytes")
    if session and kind != "mute":      # which may be over before anybody noticed
        expect(host.session() not in (0, session), f"{kind}: the session is still {session:08x}")


def stopped(load):
    """All close, and the other side has everything: what it was sent, and no more."""
    mark = len(load.lines())
    load.program.stop()
    ends = load.ends(mark)
    expect([how for _, how in ends] == ["closed"] * len(KINDS), f"at the end: {ends}")


def guest_a(host):
    check = Checks(len(EVENTS) + (3 if PLAIN else 6))
    if not PLAIN:
        check("the port is vfio-pci's", host.take_port) or check.finish()
        check("the brokers meet", host.start_broker) or check.finish()
    load = Load(host)
    check("the load is at work", lambda: wait_for(lambda: load.at_work(0), 60, "the load does not work"))
    if not PLAIN:
        check("the load is on the ring", lambda: expect(load.on_ring(30), f"not all connections are: {load.bytes()}"))
    for n, kind in enumerate(EVENTS):
        check(f"event {n}, {kind}", strike, host, load, n, kind)
    check("all connections close in order", stopped, load)
    tell("end.a")
    check("the kernel has nothing to complain of", kernel_is_fine)
    check.finish()


def main():
    host = Host()
    if ME == "a":
        guest_a(host)
    else:
        guest_b(host)


main()
