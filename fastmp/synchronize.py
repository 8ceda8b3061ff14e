"""Locks and their kin: the types of the C core, under the names that users import."""

from abc import ABC
from typing import Final, Self

from ._core import (
    SEM_VALUE_MAX,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX: Final = 0
SEMAPHORE: Final = 1


class SemLock(ABC):  # noqa: B024
    """What the locks and semaphores are: a name to ask `isinstance` for, there are no instances.

    None of them is made of named semaphores; SEM_VALUE_MAX bounds their values all the same.
    """

    SEM_VALUE_MAX: Final = SEM_VALUE_MAX

    def __new__(cls) -> Self:
        raise TypeError("SemLock has no instances of its own; use Lock, RLock or Semaphore")


for _type in (Lock, RLock, Semaphore):
    SemLock.register(_type)


class _NoCount:
    """A semaphore that a condition is made of elsewhere; ours has a list of its waiters instead."""

    def get_value(self) -> int:
        raise NotImplementedError("a condition has no semaphores to count with")


for _name in ("_sleeping_count", "_woken_count", "_wait_semaphore"):
    setattr(Condition, _name, _NoCount())
