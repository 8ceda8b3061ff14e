"""joblib, on its loky workers, which are ended with the pool."""

from collections.abc import Callable, Iterable
from typing import Any, Self

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor


class ParallelPool:
    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        get_reusable_executor().shutdown()

    def starmap(
        self,
        function: Callable[..., Any],
        items: Iterable[tuple[Any, ...]],
        batch: int | str = "auto",
        return_as: str = "list",
    ) -> Any:
        parallel = Parallel(self.workers, batch_size=batch, return_as=return_as)
        return parallel(delayed(function)(*args) for args in items)

    def map(self, function: Callable[..., Any], items: Iterable[Any], chunksize: int | str = "auto") -> Any:
        return self.starmap(function, ((item,) for item in items), chunksize)

    def imap(self, function: Callable[..., Any], items: Iterable[Any]) -> Any:
        return self.starmap(function, ((item,) for item in items), 1, "generator")

    def imap_unordered(self, function: Callable[..., Any], items: Iterable[Any]) -> Any:
        return self.starmap(function, ((item,) for item in items), 1, "generator_unordered")


class Context:
    Pool = ParallelPool

    def __init__(self, method: str) -> None:
        pass


get_context = Context
