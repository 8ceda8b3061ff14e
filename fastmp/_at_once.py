"""Two steps that no signal handler comes between.

The interpreter looks for signals when a call has returned, and before its result has a name. If a handler
raises there, a process or a descriptor that the call has made is lost. So what is made is handed on by code
in C, which looks for none.

Since Python 3.14 it looks between the __enter__ of a `with` and its block, too, and a lock would stay taken.
So the main thread, in which handlers run, takes those that must not be lost by `holding`.
"""

from __future__ import annotations

from functools import wraps
from itertools import starmap

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")
    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["at_once", "holding", "locked"]


def at_once(keep: Callable[[Any], Any], make: Callable[..., Any], *args: Any) -> Any:
    """keep(make(*args)), of two functions that are written in C."""
    return next(map(keep, starmap(make, [args])))


def holding(lock: Any, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """function(...) with the lock taken, which has an acquire() and release() that are written in C."""
    free = [True]  # what acquire() returns is taken out: to put it in could fail, for want of memory
    try:
        at_once(free.remove, lock.acquire)
        return function(*args, **kwargs)
    finally:
        if not free:
            lock.release()


def locked(name: str) -> Callable[[F], F]:
    """For methods: with the lock taken that is this attribute of their object."""

    def decorate(method: F) -> F:
        @wraps(method)
        def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return holding(getattr(self, name), method, self, *args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
