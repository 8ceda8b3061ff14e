"""Pipe: an int there and back, the other side being a process that echoes it."""

from typing import Any

from rows import child, row, seconds


def echo(connection: Any) -> None:
    while (message := connection.recv()) is not None:
        connection.send(message)


@row("Pipe round trip", count=5000)
def round_trip(mp: Any, count: int) -> float:
    here, there = mp.Pipe()

    def repeat(count: int) -> None:
        for number in range(count):
            here.send(number)
            here.recv()

    with child(mp, echo, there):
        elapsed = seconds(repeat, count)
        here.send(None)
    return elapsed
