#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""transfer.py - in both guests: bytes both ways at once over one TCP connection, every byte checked

    transfer.py MY-ADDRESS ITS-ADDRESS BYTES

The lower address listens.  What each sends follows from its address, so that the other can make it, too."""

import random
import socket
import sys
import threading
import time

PORT = 7001


def content(address, size):
    return random.Random(address).randbytes(size)


def connection(mine, its):
    if mine < its:
        with socket.create_server((mine, PORT)) as listener:
            listener.settimeout(60)
            return listener.accept()[0]
    for _ in range(300):
        try:
            return socket.create_connection((its, PORT), timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.2)
    sys.exit(f"nobody listens at {its}")


def main():
    mine, its, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    s = connection(mine, its)
    s.settimeout(100)
    sender = threading.Thread(target=lambda: (s.sendall(content(mine, size)), s.shutdown(socket.SHUT_WR)))
    start = time.monotonic()
    sender.start()
    got = bytearray()
    while piece := s.recv(65536):
        got += piece
    sender.join()
    if got != content(its, size):
        sys.exit(f"{len(got)} bytes came, {'which differ' if len(got) == size else f'not {size}'}")
    print(f"{size} bytes each way in {time.monotonic() - start:.1f} s, the same at both ends")


if __name__ == "__main__":
    main()
