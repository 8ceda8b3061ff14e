"""faster-fifo: a queue of limited size that takes several messages at once if asked to."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import faster_fifo

SIZE = 64_000_000  # bytes: room for some of the largest messages
PATIENCE = 600.0  # seconds; without it, a put gives up after ten


class Queue:
    def __init__(self) -> None:
        self.queue = faster_fifo.Queue(max_size_bytes=SIZE)

    def put(self, item: Any) -> None:
        self.queue.put(item, True, PATIENCE)

    def get(self) -> Any:
        return self.queue.get(True, PATIENCE)

    def get_many(self, count: int) -> Any:
        return self.queue.get_many(True, PATIENCE, count)


class Context:
    Queue = Queue
    Pipe: Callable[..., Any]
    Process: Callable[..., Any]

    def __init__(self, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self.Pipe, self.Process = context.Pipe, context.Process


get_context = Context
