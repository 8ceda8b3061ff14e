"""mpire, whose workers stay between the calls as those of a Pool do."""

from collections.abc import Callable, Iterable
from typing import Any, Self

from mpire import WorkerPool


class MpirePool:
    def __init__(self, workers: int, method: str) -> None:
        self.pool = WorkerPool(workers, start_method=method, keep_alive=True)
        self.apply = self.pool.apply
        self.apply_async = self.pool.apply_async

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.terminate()

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None) -> Any:
        return self.pool.map(function, items, chunk_size=chunksize)

    def starmap(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Any:
        return self.pool.map(function, list(items))

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Any:
        return self.pool.imap(function, items, chunk_size=1)

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Any:
        return self.pool.imap_unordered(function, items, chunk_size=1)


class Context:
    def __init__(self, method: str) -> None:
        self.method = method

    def Pool(self, workers: int) -> MpirePool:
        return MpirePool(workers, self.method)


get_context = Context
