"""Manager: its start and end, and calls to the objects that it holds."""

from typing import Any

from rows import row, seconds


@row("Manager dict set + get", count=2000, aim=4, limit="2 flag ping-pongs")
def set_and_get(mp: Any, count: int) -> float:
    with mp.Manager() as manager:
        numbers = manager.dict()

        def repeat(count: int) -> None:
            for number in range(count):
                numbers["key"] = number
                numbers["key"]

        return seconds(repeat, count)


@row("Manager list append", count=3000, aim=4, limit="flag ping-pong")
def append(mp: Any, count: int) -> float:
    with mp.Manager() as manager:
        numbers = manager.list()

        def repeat(count: int) -> None:
            for number in range(count):
                numbers.append(number)

        return seconds(repeat, count)


@row("Manager start + shutdown", count=10, aim=1.2, limit="fork, _exit, waitpid")
def start_and_shut_down(mp: Any, count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            with mp.Manager():
                pass

    return seconds(repeat, count)
