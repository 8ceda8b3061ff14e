"""A pool made of a `concurrent.futures.Executor`, for those peers that have one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed
from typing import Any, Self


class ExecutorPool:
    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.executor.shutdown()

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self.executor.submit(function, *args)

    def results(
        self, function: Callable[..., Any], chunksize: int, *iterables: Iterable[Any]
    ) -> Iterator[Any]:
        results: Iterator[Any] = self.executor.map(function, *iterables, chunksize=chunksize)
        return results

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self.submit(function, args).result()

    def apply_async(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        future = self.submit(function, args)
        future.get = future.result
        return future

    def map(self, function: Callable[..., Any], items: Any, chunksize: int | None = None) -> list[Any]:
        """With chunks as large as those of the standard library's pool of two, unless it is told."""
        return list(self.results(function, chunksize or -(-len(items) // 8), items))

    def starmap(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> list[Any]:
        arguments = list(zip(*items, strict=True))
        return list(self.results(function, -(-len(arguments[0]) // 8), *arguments))

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        return self.results(function, 1, items)

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        for future in as_completed([self.submit(function, (item,)) for item in items]):
            yield future.result()
