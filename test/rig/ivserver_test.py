#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ivserver_test.py - the ivshmem server alone: what it says to guests that come, leave, come back and do not listen

    ivserver_test.py PROGRAM

Speaks to it as QEMU does, and reports as the scripts in guests do (guest/lib.sh)."""

import array
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

VECTORS, BYTES = 3, 1 << 20
failed = False


class Guest:
    """One connection.  said: (number, descriptor or None) in the order in which they came."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.s.settimeout(5)
        self.s.connect(path)

    def hear(self):
        data, control, _, _ = self.s.recvmsg(8, socket.CMSG_SPACE(4))
        fds = array.array("i")
        for _, _, content in control:
            fds.frombytes(content[:4])
        return struct.unpack("<q", data)[0], (fds[0] if fds else None)

    def arrive(self, others):
        """Version, own id, memory, every other guest's doorbells, its own."""
        version, fd = self.hear()
        assert (version, fd) == (0, None), f"version {version}"
        self.id, fd = self.hear()
        assert fd is None, "a descriptor with the id"
        number, self.memory = self.hear()
        assert number == -1 and self.memory is not None, f"no memory, but {number}"
        assert os.fstat(self.memory).st_size == BYTES, "size of the memory"
        self.bells = {}
        for expected in [*others, self.id]:
            self.bells[expected] = self.hear_bells(expected)
        return self

    def hear_bells(self, expected):
        bells = []
        for _ in range(VECTORS):
            number, fd = self.hear()
            assert number == expected and fd is not None, f"{number} with {fd} instead of a doorbell of {expected}"
            bells.append(fd)
        return bells


def check(name, function):
    global failed
    start = time.monotonic()
    try:
        function()
        word = "ok"
    except (AssertionError, OSError, struct.error) as e:
        print(f"{name}: {e!r}")
        word, failed = "failed", True
    print(f"TEST {word} {(time.monotonic() - start) * 1000:.0f} {name}", flush=True)


def main():
    program, folder = sys.argv[1], tempfile.mkdtemp(prefix="ivserver.")
    path = f"{folder}/iv"
    print("PLAN 5")
    server = subprocess.Popen([program, path, str(BYTES), str(VECTORS)], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n", f"{program} did not start"
    guests = {}

    def arrivals():
        guests["a"] = Guest(path).arrive([])
        guests["b"] = Guest(path).arrive([0])
        assert (guests["a"].id, guests["b"].id) == (0, 1), "ids"
        guests["a"].bells[1] = guests["a"].hear_bells(1)

    def memory_is_shared():
        with mmap.mmap(guests["a"].memory, BYTES) as one, mmap.mmap(guests["b"].memory, BYTES) as two:
            one[12345:12350] = b"hello"
            assert two[12345:12350] == b"hello", "not the same memory"

    def bells_ring():
        for v in range(VECTORS):
            os.write(guests["a"].bells[1][v], struct.pack("<Q", 1))
            for w in range(VECTORS):
                try:
                    got = struct.unpack("<Q", os.read(guests["b"].bells[1][w], 8))[0]
                except BlockingIOError:
                    got = 0
                assert got == (v == w), f"vector {v} rung, {w} read {got}"

    def ids_are_new():
        guests["b"].s.close()
        assert guests["a"].hear() == (1, None), "the end of b was not told"
        for again in range(2, 6):
            guest = Guest(path).arrive([0])
            assert guest.id == again, f"id {guest.id} instead of {again}"
            guests["a"].hear_bells(again)
            guest.s.close()
            assert guests["a"].hear() == (again, None), "an end was not told"

    def nobody_blocks():
        """a does not read: thousands come and go, and each is served."""
        for _ in range(3000):
            guest = Guest(path)
            assert guest.hear() == (0, None), "version"
            guest.s.close()

    check("server: two guests arrive", arrivals)
    check("server: they share memory", memory_is_shared)
    check("server: doorbells ring what they name", bells_ring)
    check("server: a guest that comes back has a new id", ids_are_new)
    check("server: a guest that does not listen stops nobody", nobody_blocks)
    server.kill()
    server.wait()
    os.unlink(path)
    os.rmdir(folder)
    sys.exit(failed)


if __name__ == "__main__":
    main()
