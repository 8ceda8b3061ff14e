"""Pipe: a message there and back, the other side being a process that echoes it, and a stream one way."""

import time
from typing import Any

from rows import alternate, crew, in_parts, row

PACKET = [42, None, "hello"]
PACKETS = 100


def ask(count: int, here: Any, there: Any, message: Any) -> None:
    for _ in range(count):
        here.send(message)
        here.recv()


def echo(count: int, here: Any, there: Any, message: Any) -> None:
    for _ in range(count):
        there.send(there.recv())


def round_trips(mp: Any, count: int, message: Any) -> float:
    return alternate(mp, count, ask, echo, *mp.Pipe(), message)


@row("Pipe round trip, int", count=5000, aim=12, limit="flag ping-pong", needs="Pipe")
def round_trip_int(mp: Any, count: int) -> float:
    return round_trips(mp, count, 42)


@row("Pipe round trip, 1 KiB", count=5000, aim=10, limit="flag ping-pong", needs="Pipe")
def round_trip_kibibyte(mp: Any, count: int) -> float:
    return round_trips(mp, count, bytes(1 << 10))


@row("Pipe round trip, 1 MiB", count=300, aim=4, limit="memcpy of 2 MiB", needs="Pipe")
def round_trip_mebibyte(mp: Any, count: int) -> float:
    return round_trips(mp, count, bytes(1 << 20))


@row("Pipe, a first 100 packets there and back", count=20, aim=8, limit="100 flag ping-pongs", needs="Pipe")
def exercise(mp: Any, count: int) -> float:
    """Two processes that have just met send packets back and forth a hundred times."""

    def meet(count: int) -> float:
        elapsed = 0.0
        for _ in range(count):
            here, there = mp.Pipe()
            with crew(mp, 1, echo, here, there, PACKET) as other:
                other.order(PACKETS)
                start = time.perf_counter()
                ask(PACKETS, here, there, PACKET)
                elapsed += time.perf_counter() - start
                other.wait()
        return elapsed

    return in_parts(meet, count)


def receive(count: int, here: Any, there: Any, message: Any) -> None:
    for _ in range(count):
        here.recv()


def send(count: int, here: Any, there: Any, message: Any) -> None:
    for _ in range(count):
        there.send(message)


def stream(mp: Any, count: int, message: Any) -> float:
    return alternate(mp, count, receive, send, *mp.Pipe(), message)


@row("Pipe stream of small tuples", count=50_000, aim=4, limit="pickle of a small tuple", needs="Pipe")
def stream_of_tuples(mp: Any, count: int) -> float:
    return stream(mp, count, (42, "item"))


@row("Pipe stream of 1 MiB bytes", count=400, aim=8, limit="memcpy of 1 MiB", needs="Pipe")
def stream_of_mebibytes(mp: Any, count: int) -> float:
    return stream(mp, count, bytes(1 << 20))
