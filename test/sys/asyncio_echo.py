#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""asyncio_echo.py - a Python asyncio echo server and client with 1,000 connections, each byte compared"""

from syslib import check, free_port, main

SERVER = r'''
import asyncio, signal, sys
async def echo(r, w):
    while data := await r.read(65536):
        w.write(data)
        await w.drain()
    w.close()
async def run():
    s = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]), backlog=2000)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
asyncio.run(run())
'''
CLIENT = r'''
import asyncio, random, sys
N, ROUNDS = 1000, 12
connected = 0
async def one(i, start):
    global connected
    rnd = random.Random(i)
    r, w = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    connected += 1
    if connected == N:
        start.set()
    await start.wait()
    for n in range(ROUNDS):
        data = rnd.randbytes(rnd.choice((1, 54, 117, 1000, 5000)))
        w.write(data)
        assert await r.readexactly(len(data)) == data, f"connection {i}, round {n}: other bytes came back"
    w.write_eof()
    assert await r.read() == b"", "more than was sent"
    w.close()
    await w.wait_closed()
async def run():
    start = asyncio.Event()
    tasks = [asyncio.create_task(one(i, start)) for i in range(N)]
    await asyncio.gather(*tasks)
    print("echoed", N * ROUNDS)
asyncio.run(run())
'''


def test(rig):
    port = free_port()
    s = rig.start(["python3", "-c", SERVER, port], label="server").listening(port)
    out = rig.run(["python3", "-c", CLIENT, port], label="client", seconds=90)
    check("echoed 12000" in out, out[-1500:])
    s.stop()
    rig.nothing_left("server and client")
    rig.share("client", least=0.9)
    rig.share("server", least=0.9)


main(test)
