"""Locks and their kin: the types of the C core, under the names that users import.

Here is also what others expect to find in them, and to build on: SemLock, a class of semaphores of the
system, and the attribute `_semlock`, through which one looks into a lock. Ours are not made of such.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC
from operator import attrgetter

import fastmp

from . import _logging
from ._core import (
    SEM_VALUE_MAX,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
    sem_unlink,
)
from ._core import SemLock as _SemLock
from ._finalize import Finalize, register_after_fork
from ._spawning import assert_spawning

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar, Final

    from .context import BaseContext

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX: Final = 0
SEMAPHORE: Final = 1

_ATTEMPTS = 100  # to find a name that is free


class SemLock(ABC):  # noqa: B024
    """A semaphore of the system, for libraries that build on it. Also what our own locks are instances of.

    A forked child has the semaphore from its parent, so its name goes at once. Other children open it by
    the name, which goes with the object that made it, or by the resource tracker if its process was killed.
    """

    SEM_VALUE_MAX: ClassVar[int] = SEM_VALUE_MAX
    _rand: ClassVar[Iterator[str]] = iter(lambda: os.urandom(4).hex(), "")

    def __init__(self, kind: int, value: int, maxvalue: int, *, ctx: BaseContext | None = None) -> None:
        self._is_fork_ctx = (ctx or fastmp).get_start_method() == "fork"
        self._hold(self._create(kind, value, maxvalue))
        name = self._semlock.name
        if name is not None:
            fastmp.resource_tracker.register(name, "semaphore")

    def _create(self, kind: int, value: int, maxvalue: int) -> _SemLock:
        for _ in range(_ATTEMPTS):
            name = self._make_name()
            if self._is_fork_ctx:
                remover = None
            else:  # before there is the name: from then on a signal handler may raise
                remover = Finalize(self, SemLock._cleanup, args=(name,), exitpriority=0)
            try:
                return _SemLock(kind, value, maxvalue, name, self._is_fork_ctx)
            except FileExistsError:
                if remover is not None:
                    remover.cancel()
        raise FileExistsError("cannot find name for semaphore")

    def _hold(self, semlock: _SemLock) -> None:
        self._semlock = semlock
        _logging.debug("semlock with handle %s", semlock.handle)
        self._make_methods()
        register_after_fork(self, SemLock._after_fork)

    def _after_fork(self) -> None:
        self._semlock._after_fork()

    def _make_methods(self) -> None:
        self.acquire = self._semlock.acquire
        self.release = self._semlock.release

    def locked(self) -> bool:
        """Would acquire() have to wait?"""
        return self._semlock._is_zero()

    # Methods of the C type, found by C: a signal handler that comes in a `with` finds the lock taken and the
    # block protected, or neither.
    __enter__ = property(attrgetter("_semlock.__enter__"))
    __exit__ = property(attrgetter("_semlock.__exit__"))

    def __getstate__(self) -> tuple[int, int, int, str | None]:
        assert_spawning(self)
        semlock = self._semlock
        if semlock.name is None:
            raise RuntimeError(
                "A SemLock created in a fork context is being shared with a process in a spawn context, "
                "which cannot find it. Make it with the context of the process."
            )
        return semlock.handle, semlock.kind, semlock.maxvalue, semlock.name

    def __setstate__(self, state: tuple[int, int, int, str | None]) -> None:
        self._is_fork_ctx = False
        self._hold(_SemLock._rebuild(*state))

    @staticmethod
    def _make_name() -> str:
        return f"{fastmp.current_process()._config['semprefix']}-{next(SemLock._rand)}"

    @staticmethod
    def _cleanup(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # it could not be made
            sem_unlink(name)
        fastmp.resource_tracker.unregister(name, "semaphore")


class _Inside:
    """One of our locks or semaphores as if there was a semaphore of the system in it."""

    name = None

    def __init__(self, lock: Lock | RLock | Semaphore, kind: int, maxvalue: int) -> None:
        self._lock = lock
        self.kind = kind
        self.maxvalue = maxvalue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)  # acquire, release, _is_mine, _count, as far as the lock has them

    def _get_value(self) -> int:
        lock = self._lock
        return lock.get_value() if isinstance(lock, Semaphore) else 1 - lock.locked()

    def _is_zero(self) -> bool:
        return self._lock.locked()


def _look_inside(lock: Lock | RLock | Semaphore) -> _Inside:
    kind = RECURSIVE_MUTEX if isinstance(lock, RLock) else SEMAPHORE
    return _Inside(lock, kind, lock._maxvalue() if isinstance(lock, Semaphore) else 1)


for _type in (Lock, RLock, Semaphore):
    SemLock.register(_type)
    _type._semlock = property(_look_inside)  # type: ignore[union-attr]


class _NoCount:
    """A semaphore that a condition is made of elsewhere; ours has a list of its waiters instead."""

    def get_value(self) -> int:
        raise NotImplementedError("a condition has no semaphores to count with")


for _name in ("_sleeping_count", "_woken_count", "_wait_semaphore"):
    setattr(Condition, _name, _NoCount())
