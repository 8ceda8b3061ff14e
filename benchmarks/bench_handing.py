"""Semaphore, Event, Condition and Barrier: the turn is handed to another process and comes back."""

from typing import Any

from rows import alternate, row, seconds


def post_then_wait(count: int, ping: Any, pong: Any) -> None:
    for _ in range(count):
        ping.release()
        pong.acquire()


def wait_then_post(count: int, ping: Any, pong: Any) -> None:
    for _ in range(count):
        ping.acquire()
        pong.release()


@row("Semaphore there and back", count=10_000, aim=15, limit="flag ping-pong", needs="Semaphore")
def semaphore(mp: Any, count: int) -> float:
    return alternate(mp, count, post_then_wait, wait_then_post, mp.Semaphore(0), mp.Semaphore(0))


def set_then_await(count: int, ping: Any, pong: Any) -> None:
    for _ in range(count):
        ping.set()
        pong.wait()
        pong.clear()


def await_then_set(count: int, ping: Any, pong: Any) -> None:
    for _ in range(count):
        ping.wait()
        ping.clear()
        pong.set()


@row("Event there and back", count=3000, aim=40, limit="flag ping-pong")
def event(mp: Any, count: int) -> float:
    return alternate(mp, count, set_then_await, await_then_set, mp.Event(), mp.Event())


def notify_then_wait(count: int, condition: Any, turn: Any) -> None:
    for _ in range(count):
        with condition:
            turn.value = 1
            condition.notify()
            while turn.value:
                condition.wait()


def wait_then_notify(count: int, condition: Any, turn: Any) -> None:
    for _ in range(count):
        with condition:
            while not turn.value:
                condition.wait()
            turn.value = 0
            condition.notify()


@row("Condition there and back", count=3000, aim=20, limit="flag ping-pong")
def condition(mp: Any, count: int) -> float:
    return alternate(mp, count, notify_then_wait, wait_then_notify, mp.Condition(), mp.RawValue("i", 0))


def meet(count: int, barrier: Any) -> None:
    for _ in range(count):
        barrier.wait()


@row("Barrier of two", count=3000, aim=25, limit="flag ping-pong")
def barrier(mp: Any, count: int) -> float:
    return alternate(mp, count, meet, meet, mp.Barrier(2))


@row("Event.is_set", count=200_000, aim=8, limit="threading.Event.is_set")
def is_set(mp: Any, count: int) -> float:
    event = mp.Event()

    def repeat(count: int) -> None:
        for _ in range(count):
            event.is_set()

    return seconds(repeat, count)
