"""Queue, SimpleQueue and JoinableQueue: there and back through two of them, and streams of all widths."""

from typing import Any

import numpy
from rows import Work, alternate, crew, row, seconds

ITEM = (42, "item")


def ask(count: int, requests: Any, answers: Any) -> None:
    for number in range(count):
        requests.put(number)
        answers.get()


def echo(count: int, requests: Any, answers: Any) -> None:
    for _ in range(count):
        answers.put(requests.get())


@row("Queue round trip", count=3000, aim=40, limit="flag ping-pong", needs="Queue")
def queue_round_trip(mp: Any, count: int) -> float:
    return alternate(mp, count, ask, echo, mp.Queue(), mp.Queue())


@row("SimpleQueue round trip", count=3000, aim=25, limit="flag ping-pong")
def simple_queue_round_trip(mp: Any, count: int) -> float:
    return alternate(mp, count, ask, echo, mp.SimpleQueue(), mp.SimpleQueue())


def produce(count: int, queue: Any, item: Any) -> None:
    for _ in range(count):
        queue.put(item)


def consume(count: int, queue: Any) -> None:
    for _ in range(count):
        queue.get()


def consume_many(count: int, queue: Any) -> None:
    while count:
        count -= len(queue.get_many(count))


def stream(
    mp: Any,
    count: int,
    item: Any,
    producers: int = 1,
    consumers: int = 1,
    take: Work = consume,
    queue: Any = None,
) -> float:
    """Each producer puts, and each consumer takes, as many as the others: the work ends for all at once."""
    queue = queue or mp.Queue()
    with crew(mp, consumers, take, queue) as takers, crew(mp, producers, produce, queue, item) as putters:

        def repeat(count: int) -> None:
            share = max(1, count // (producers * consumers))
            takers.order(share * producers)
            putters.order(share * consumers)
            takers.wait()
            putters.wait()

        return seconds(repeat, count)


@row("Queue stream, 1 and 1", count=50_000, aim=6, limit="pickle of a small tuple", needs="Queue")
def stream_1x1(mp: Any, count: int) -> float:
    return stream(mp, count, ITEM)


@row("Queue stream, 4 and 4", count=50_000, aim=4, limit="pickle of a small tuple", needs="Queue")
def stream_4x4(mp: Any, count: int) -> float:
    return stream(mp, count, ITEM, 4, 4)


def work_off(count: int, queue: Any) -> None:
    for _ in range(count):
        queue.get()
        queue.task_done()


@row("JoinableQueue, 2 workers", count=20_000, aim=5, limit="pickle of a small tuple")
def joinable(mp: Any, count: int) -> float:
    queue = mp.JoinableQueue()
    with crew(mp, 2, work_off, queue) as workers:

        def repeat(count: int) -> None:
            share = max(1, count // 2)
            workers.order(share)
            produce(2 * share, queue, ITEM)
            queue.join()
            workers.wait()

        return seconds(repeat, count)


@row("Queue stream of 1 MiB bytes", count=400, aim=8, limit="memcpy of 1 MiB", needs="Queue")
def stream_of_mebibytes(mp: Any, count: int) -> float:
    return stream(mp, count, bytes(1 << 20))


@row("Queue stream of 8 MB arrays", count=40, aim=8, limit="memcpy of 8 MB", needs="Queue")
def stream_of_arrays(mp: Any, count: int) -> float:
    return stream(mp, count, numpy.ones(1_000_000))


@row("Queue stream of 8 MB arrays, zero_copy", count=40, limit="memcpy of 8 MB")
def stream_of_lent_arrays(mp: Any, count: int) -> float:
    """Received as views of shared memory, where there is such a thing."""
    lends = "fastmp" in type(mp).__module__
    queue = mp.Queue(zero_copy=True) if lends else mp.Queue()
    return stream(mp, count, numpy.ones(1_000_000), queue=queue)


# What follows are the shapes that faster-fifo's own benchmark has.
MESSAGES = 200_000


def shape(producers: int, consumers: int) -> None:
    name = f"Queue, 200k messages, {producers} x {consumers}"

    @row(name, count=MESSAGES, limit="pickle of a small tuple", needs="Queue")
    def one_by_one(mp: Any, count: int) -> float:
        return stream(mp, count, ITEM, producers, consumers)

    @row(f"{name}, get_many", count=MESSAGES, limit="pickle of a small tuple", needs="Queue")
    def many_at_once(mp: Any, count: int) -> float:
        has_many = hasattr(mp.Queue(), "get_many")
        return stream(mp, count, ITEM, producers, consumers, consume_many if has_many else consume)


for producers, consumers in (1, 1), (1, 10), (10, 1), (20, 3), (20, 20):
    shape(producers, consumers)
