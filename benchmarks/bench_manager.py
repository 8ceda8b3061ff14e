"""Manager: its start and end, and calls to the objects that it holds."""

from typing import Any

from rows import crew, row, seconds


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


@row("Manager Namespace set + get", count=2000, aim=4, limit="2 flag ping-pongs")
def set_and_get_an_attribute(mp: Any, count: int) -> float:
    with mp.Manager() as manager:
        space = manager.Namespace()

        def repeat(count: int) -> None:
            for number in range(count):
                space.number = number
                space.number  # noqa: B018

        return seconds(repeat, count)


@row("Manager Value set + get", count=2000, aim=4, limit="2 flag ping-pongs")
def set_and_get_a_value(mp: Any, count: int) -> float:
    with mp.Manager() as manager:
        value = manager.Value("i", 0)

        def repeat(count: int) -> None:
            for number in range(count):
                value.value = number
                value.value  # noqa: B018

        return seconds(repeat, count)


@row("Manager Queue put + get", count=2000, aim=4, limit="2 flag ping-pongs")
def put_and_get(mp: Any, count: int) -> float:
    with mp.Manager() as manager:
        queue = manager.Queue()

        def repeat(count: int) -> None:
            for number in range(count):
                queue.put(number)
                queue.get()

        return seconds(repeat, count)


def update(count: int, numbers: Any) -> None:
    for number in range(count):
        numbers["key"] = number
        numbers["key"]


def crowd(mp: Any, count: int, size: int) -> float:
    """The time for a pair of calls, whoever makes it."""
    with mp.Manager() as manager, crew(mp, size, update, manager.dict()) as clients:

        def repeat(count: int) -> None:
            clients.order(max(1, count // size))
            clients.wait()

        return seconds(repeat, count)


@row("Manager dict set + get, 4 clients", count=4000, aim=4, limit="2 flag ping-pongs")
def four_clients(mp: Any, count: int) -> float:
    return crowd(mp, count, 4)


@row("Manager dict set + get, 16 clients", count=8000, aim=4, limit="2 flag ping-pongs")
def sixteen_clients(mp: Any, count: int) -> float:
    return crowd(mp, count, 16)


@row("Manager start + shutdown", count=10, aim=1.2, limit="fork, _exit, waitpid")
def start_and_shut_down(mp: Any, count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            with mp.Manager():
                pass

    return seconds(repeat, count)
