"""The interface of fastmp with threads instead of processes: nothing is copied, nothing is pickled.

A "process" is a thread that knows which thread started it, so that each has children of its own. Locks are
those of `threading`, queues those of `queue`, what a manager would make are plain objects. Pools are
`fastmp.pool.ThreadPool`.
"""

from __future__ import annotations

import sys
import threading
import weakref
from builtins import dict as dict
from builtins import list as list
from queue import Queue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

import fastmp

from .._managers import values
from .._managers.values import Array as Array
from .._managers.values import Namespace as Namespace
from .connection import Pipe

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType
    from typing import Any

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Semaphore",
    "active_children",
    "current_process",
    "freeze_support",
]

JoinableQueue = Queue
current_process = threading.current_thread


class DummyProcess(threading.Thread):
    """A thread with the methods of a process, as far as a thread can have them."""

    _pid = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs)
        self._parent = current_process()
        self._children: weakref.WeakKeyDictionary[DummyProcess, None] = weakref.WeakKeyDictionary()
        self._start_called = False

    def start(self) -> None:
        """Start the thread. Only the thread that made the object may do that."""
        if self._parent is not current_process():
            raise RuntimeError(f"Parent is {self._parent!r} but current_process is {current_process()!r}")
        _children()[self] = None
        self._start_called = True
        super().start()

    @property
    def exitcode(self) -> int | None:
        """0 after the end, however it came; None before."""
        return 0 if self._start_called and not self.is_alive() else None


Process = DummyProcess


def _children() -> weakref.WeakKeyDictionary[DummyProcess, None]:
    """The children of this thread, which need not be one of ours."""
    thread: Any = current_process()
    if not hasattr(thread, "_children"):
        thread._children = weakref.WeakKeyDictionary()
    children: weakref.WeakKeyDictionary[DummyProcess, None] = thread._children
    return children


def active_children() -> list[DummyProcess]:
    """The children of this thread that still run."""
    children = _children()
    for child in list(children):
        if not child.is_alive():
            children.pop(child, None)
    return list(children)


def freeze_support() -> None:
    """There is nothing to support: no program is executed."""


# ---- what a manager would make ---------------------------------------------------------------------------


class Value(values.Value):
    """An object for one value."""

    def __repr__(self) -> str:
        return f"<{super().__repr__()}>"


def Manager() -> ModuleType:
    """This module: it has all that a manager makes."""
    return sys.modules[__name__]


def shutdown() -> None:
    """There is no manager's process to end."""


def Pool(
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> Any:
    """A pool of threads."""
    pool: Any = fastmp.pool  # loaded by the first who wants one
    return pool.ThreadPool(processes, initializer, initargs)
