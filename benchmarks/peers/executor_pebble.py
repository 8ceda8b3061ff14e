"""pebble: an executor with other names."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pebble import ProcessPool

from peers.executor import ExecutorPool


class PebblePool(ExecutorPool):
    def __exit__(self, *error: object) -> None:
        self.executor.close()
        self.executor.join()

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self.executor.schedule(function, args)

    def results(
        self, function: Callable[..., Any], chunksize: int, *iterables: Iterable[Any]
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.executor.map(function, *iterables, chunksize=chunksize).result()
        return results


class Context:
    def __init__(self, method: str) -> None:
        self.method = method

    def Pool(self, workers: int) -> PebblePool:
        return PebblePool(ProcessPool(workers, context=multiprocessing.get_context(self.method)))


get_context = Context
