"""Queue and SimpleQueue: an int there and back through two queues, and a stream one way."""

from typing import Any

from rows import child, row, seconds


def echo(requests: Any, answers: Any) -> None:
    while (message := requests.get()) is not None:
        answers.put(message)


def round_trips(mp: Any, requests: Any, answers: Any, count: int) -> float:
    def repeat(count: int) -> None:
        for number in range(count):
            requests.put(number)
            answers.get()

    with child(mp, echo, requests, answers):
        elapsed = seconds(repeat, count)
        requests.put(None)
    return elapsed


@row("Queue round trip", count=3000)
def queue_round_trip(mp: Any, count: int) -> float:
    return round_trips(mp, mp.Queue(), mp.Queue(), count)


@row("SimpleQueue round trip", count=3000)
def simple_queue_round_trip(mp: Any, count: int) -> float:
    return round_trips(mp, mp.SimpleQueue(), mp.SimpleQueue(), count)


def produce(queue: Any, orders: Any) -> None:
    while count := orders.recv():
        for number in range(count):
            queue.put((number, "item"))


@row("Queue stream of small tuples, an item", count=50_000)
def stream(mp: Any, count: int) -> float:
    queue = mp.Queue()
    here, there = mp.Pipe()

    def repeat(count: int) -> None:
        here.send(count)
        for _ in range(count):
            queue.get()

    with child(mp, produce, queue, there):
        elapsed = seconds(repeat, count)
        here.send(0)
    return elapsed
