"""Queues over the message queue of the C core.

An item is pickled by the caller of put, straight into shared memory: errors are raised there, no thread
feeds anything, the item outlives its producer, and what was put can be got at once. put and get are the
methods of the C type, with no Python in between.

Programs reach for the ends of the pipe that a queue of the standard library has. `_reader` and `_writer`
are views of the queue that answer as those would. A process gets a descriptor for the queue when it asks
for `_reader.fileno()`: readable while there is something to get, in `connection.wait` and in event loops.
Where several processes get from one queue, another one may be quicker: then it was readable in vain.

The large buffers of an item, those that pickle 5 keeps apart (numpy arrays), are copied in by put and out
by get. With `zero_copy` they are not copied out: the received array lies in shared memory, read-only, or
writable if `zero_copy="writable"`, and the memory is freed with the last view of it. A child that is forked
meanwhile shares it, as it shares an Array, and keeps it alive, too. All other items are as without.

Subclasses that take a classic queue apart get one: see _classic_queue.
"""

from __future__ import annotations

import types
from queue import Empty, Full

from ._classic_queue import (
    ClassicJoinableQueue,
    ClassicQueue,
    ClassicSimpleQueue,
    mix_into,
)
from ._classic_queue import _sentinel as _sentinel
from ._core import SEM_VALUE_MAX, MessageQueue

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, ClassVar, Generic, Literal, TypeVar

    from _typeshed import ReadableBuffer

    _T = TypeVar("_T")
    ZeroCopy = bool | Literal["writable"]

    class _MessageQueue(MessageQueue, Generic[_T]): ...

else:
    _T = None
    _MessageQueue = {_T: MessageQueue}  # subscripted below

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]

_BUFFERS = {False: 0, True: 1, "writable": 2}  # by zero_copy
_SIMPLE_BYTES = 1 << 20  # what may be in flight in a SimpleQueue; as with a pipe, a fast writer waits


class _End:
    """What `_reader` and `_writer` have in common; all that they know is in the queue."""

    __slots__ = ("_queue",)

    def __init__(self, queue: _Queue[Any]) -> None:
        self._queue = queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._queue is self._queue

    def __hash__(self) -> int:
        return hash((type(self), id(self._queue)))


class _Reader(_End):
    """The end to get from, like a Connection that only receives."""

    __slots__ = ()
    readable, writable = True, False

    @property
    def closed(self) -> bool:
        return self._queue._reader_closed

    def close(self) -> None:
        self._queue._shut(True, False)

    def fileno(self) -> int:
        return self._queue._fileno()

    def poll(self, timeout: float | None = 0.0) -> bool:
        return self._queue._ready(timeout)

    def recv(self) -> Any:
        return self._queue.get()

    def recv_bytes(self) -> bytes:
        return self._queue.get_bytes()


class _Writer(_End):
    """The end to put into, like a Connection that only sends; it has no descriptor."""

    __slots__ = ()
    readable, writable = False, True

    @property
    def closed(self) -> bool:
        return self._queue._writer_closed

    def close(self) -> None:
        self._queue._shut(False, True)

    def send(self, obj: Any) -> None:
        self._queue.put(obj)

    def send_bytes(self, buf: ReadableBuffer) -> None:
        self._queue.put_bytes(buf)


class _Part:
    """An attribute that is made whenever it is looked up, and may be set."""

    def __init__(self, make: type[_End]) -> None:
        self._make = make

    def __get__(self, queue: _Queue[Any] | None, owner: type) -> Any:
        return self if queue is None else self._make(queue)


class _Queue(_MessageQueue[_T]):
    """What the queues have in common: queues for any number of producers and consumers."""

    _classic: ClassVar[type]
    _reader = _Part(_Reader)
    _writer = _Part(_Writer)

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(types.GenericAlias)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            mix_into(cls, cls._classic)

    # As with the standard library's queues, what subclasses add stays behind unless they say otherwise:
    # the executor of concurrent.futures adds locks that cannot be pickled.

    def __getstate__(self) -> Any:
        return None

    def __setstate__(self, state: Any) -> None:
        pass


def _buffers(zero_copy: object) -> int:
    try:
        return _BUFFERS[zero_copy]
    except (KeyError, TypeError):
        raise ValueError(f"zero_copy must be False, True or 'writable', not {zero_copy!r}") from None


class _Absent:
    """An attribute of the base class that there is not here."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, queue: object, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}")


class Queue(_Queue[_T]):
    """A queue; bounded if `maxsize` is above 0."""

    _classic = ClassicQueue
    task_done: Any = _Absent()
    join: Any = _Absent()

    def __init__(self, maxsize: int = 0, *, ctx: Any = None, zero_copy: ZeroCopy = False) -> None:
        super().__init__(max(maxsize, 0), 0, _buffers(zero_copy))
        self._maxsize = maxsize if maxsize > 0 else SEM_VALUE_MAX

    def __getstate__(self) -> Any:
        return self._maxsize

    def __setstate__(self, state: Any) -> None:
        self._maxsize = state

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

    def _terminate_broken(self) -> None:
        """The other side is gone: what is in the queue is for nobody."""
        self.close()

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: Any) -> None:
        """Called with what cannot be pickled, if a subclass overrides it; otherwise put raises."""
        ClassicQueue._on_queue_feeder_error(e, obj)


class JoinableQueue(Queue[_T]):
    """A queue that counts its items until they are done: task_done for each, join waits for all."""

    _classic = ClassicJoinableQueue
    task_done = MessageQueue.task_done
    join = MessageQueue.join


class SimpleQueue(_Queue[_T]):
    """A queue with few methods. A put waits while more than a mebibyte is in flight."""

    _classic = ClassicSimpleQueue
    task_done: Any = _Absent()
    join: Any = _Absent()

    def __init__(self, *, ctx: Any = None, zero_copy: ZeroCopy = False) -> None:
        super().__init__(0, _SIMPLE_BYTES, _buffers(zero_copy))

    def close(self) -> None:
        """This process uses it no more."""
        self._shut(True, True)
