"""Queues over the message queue of the C core.

An item is pickled by the caller of put, straight into shared memory: errors are raised there, no thread
feeds anything, the item outlives its producer, and what was put can be got at once. put and get are the
methods of the C type, with no Python in between.

Subclasses that take a classic queue apart get one: see _classic_queue.
"""

from __future__ import annotations

import types
from queue import Empty, Full

from ._classic_queue import (
    ClassicJoinableQueue,
    ClassicQueue,
    ClassicSimpleQueue,
    _sentinel,
    mix_into,
)
from ._core import SEM_VALUE_MAX, MessageQueue

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, ClassVar, Generic, TypeVar

    _T = TypeVar("_T")

    class _MessageQueue(MessageQueue, Generic[_T]): ...

else:
    _T = None
    _MessageQueue = {_T: MessageQueue}  # subscripted below

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue", "_sentinel"]

_SIMPLE_BYTES = 1 << 20  # what may be in flight in a SimpleQueue; as with a pipe, a fast writer waits


class _Queue(_MessageQueue[_T]):
    """What the queues have in common: queues for any number of producers and consumers."""

    _classic: ClassVar[type]

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(types.GenericAlias)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            mix_into(cls, cls._classic)


class Queue(_Queue[_T]):
    """A queue; bounded if `maxsize` is above 0."""

    _classic = ClassicQueue

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(max(maxsize, 0))
        self._maxsize = maxsize if maxsize > 0 else SEM_VALUE_MAX

    def put_nowait(self, obj: _T) -> None:
        """put, or Full at once."""
        self.put(obj, False)

    def get_nowait(self) -> _T:
        """get, or Empty at once."""
        item: _T = self.get(False)
        return item

    def join_thread(self) -> None:
        """There is no thread to wait for: what was put is in the queue."""
        assert self.closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """There is no thread that the exit of this process would wait for."""

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: Any) -> None:
        """Called with what cannot be pickled, if a subclass overrides it; otherwise put raises."""
        ClassicQueue._on_queue_feeder_error(e, obj)


class JoinableQueue(Queue[_T]):
    """A queue that counts its items until they are done: task_done for each, join waits for all."""

    _classic = ClassicJoinableQueue


class SimpleQueue(_Queue[_T]):
    """A queue with few methods. A put waits while more than a mebibyte is in flight."""

    _classic = ClassicSimpleQueue

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(0, _SIMPLE_BYTES)

    def close(self) -> None:
        """This process uses it no more."""
        super().close()
        # Instead of the ValueError of a Queue, and of its answer if it was never used.
        self.put = self.get = self.empty = _refuse  # type: ignore[method-assign]


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise OSError("handle is closed")
