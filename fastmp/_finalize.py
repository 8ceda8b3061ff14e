"""What is to be done later: finalizers, and callbacks for children after a fork.

A finalizer runs once: when it is called, when its object dies, or at the exit of the process that made
it if it has an exit priority (highest first, then newest first). A forked child inherits neither the
finalizers nor the duty to run them: its registry is emptied.
A leaf: imports nothing of fastmp.
"""

from __future__ import annotations

import itertools
import os
import sys
import weakref

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["Finalize", "register_after_fork", "run_after_forkers", "run_finalizers"]

_finalizer_registry: dict[tuple[int | None, int], Finalize] = {}
_finalizer_counter = itertools.count()
_afterfork_registry: weakref.WeakValueDictionary[tuple[int, int, Callable[[Any], object]], Any] = (
    weakref.WeakValueDictionary()
)
_afterfork_counter = itertools.count()


class Finalize:
    """Call `callback` when `obj` dies, or at exit if there is an exit priority, whichever is first."""

    def __init__(
        self,
        obj: object,
        callback: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        exitpriority: int | None = None,
    ) -> None:
        if exitpriority is not None and not isinstance(exitpriority, int):
            raise TypeError(f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)}")
        if obj is None and exitpriority is None:
            raise ValueError("Without object, exitpriority cannot be None")
        self._callback: Callable[..., Any] | None = callback
        self._args = tuple(args)
        self._kwargs = dict(kwargs or {})
        self._key = (exitpriority, next(_finalizer_counter))
        self._pid = os.getpid()
        self._weakref: weakref.ref[Any] | None = None if obj is None else weakref.ref(obj, self)
        _finalizer_registry[self._key] = self

    def __call__(self, wr: object = None) -> Any:
        """Run the callback, unless it has run, was cancelled or belongs to another process."""
        if _finalizer_registry.pop(self._key, None) is None:
            return None
        callback, args, kwargs = self._callback, self._args, self._kwargs
        self._forget()
        if callback is None or self._pid != os.getpid():
            return None
        return callback(*args, **kwargs)

    def cancel(self) -> None:
        """The callback is not to be called any more."""
        if _finalizer_registry.pop(self._key, None) is not None:
            self._forget()

    def still_active(self) -> bool:
        """Whether the callback is still to be called."""
        return self._key in _finalizer_registry

    def _forget(self) -> None:
        self._weakref = self._callback = None
        self._args, self._kwargs = (), {}

    def __repr__(self) -> str:
        name = type(self).__name__
        callback = self._callback
        if callback is None or (self._weakref is not None and self._weakref() is None):
            return f"<{name} object, dead>"
        parts = [f"<{name} object, callback={getattr(callback, '__name__', callback)}"]
        if self._args:
            parts.append(f"args={self._args}")
        if self._kwargs:
            parts.append(f"kwargs={self._kwargs}")
        if self._key[0] is not None:
            parts.append(f"exitpriority={self._key[0]}")
        return ", ".join(parts) + ">"


def run_finalizers(minpriority: int | None = None) -> None:
    """Run the finalizers that have an exit priority, and at least `minpriority` if that is given.

    Without it this is the end: those without a priority are then dropped. A finalizer that raises is
    reported, the others still run.
    """
    due = [
        key for key in list(_finalizer_registry)
        if key[0] is not None and (minpriority is None or key[0] >= minpriority)
    ]  # fmt: skip
    for key in sorted(due, reverse=True):
        finalizer = _finalizer_registry.get(key)
        if finalizer is None:
            continue
        try:
            finalizer()
        except Exception:
            sys.__excepthook__(*sys.exc_info())
    if minpriority is None:
        _finalizer_registry.clear()


def register_after_fork(obj: T, func: Callable[[T], object]) -> None:
    """Call `func(obj)` in each child forked by fastmp while `obj` lives."""
    _afterfork_registry[next(_afterfork_counter), id(obj), func] = obj


def run_after_forkers(report: Callable[[str, Exception], object]) -> None:
    """In a new child: call what was registered, oldest first; `report` hears of those that raise."""
    for (_, _, func), obj in sorted(_afterfork_registry.items(), key=lambda item: item[0][0]):
        try:
            func(obj)
        except Exception as e:
            report("after forker raised exception %s", e)
