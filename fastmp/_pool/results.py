"""What a caller gets for a task: ApplyResult, MapResult and the iterators of imap."""

from __future__ import annotations

import collections
import itertools
import pickle
import sys
import threading
import time
import types

from .._core import TimeoutError
from .desk import _left
from .errors import MaybeDecodingError, RemoteTraceback, WorkerDied, _safe_repr, rebuild_exc
from .tasks import DIED, ERROR, RAISED_HERE, UNREADABLE, VALUE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from typing import Any, Self

    from .pool import Pool
    from .tasks import Item, Task

_job_numbers = itertools.count()


class _Job:
    """What all results have in common: tasks are out, and results come into the inbox."""

    _inbox: MutableMapping[int, Item]
    _func: Any = None

    def __init__(self, pool: Pool) -> None:
        self._pool: Pool | None = pool
        self._desk = pool._desk
        self._job = next(_job_numbers)
        self._cache = pool._cache

    def _arrived(self) -> None:
        """Look into the inbox. Does nothing the second time."""
        raise NotImplementedError

    def _fail(self, failure: Item) -> None:
        """There will be no more results."""
        raise NotImplementedError

    def _set(self, i: int, obj: tuple[bool, Any]) -> None:
        """A result that this process knows by itself: (success, value or exception)."""
        success, value = obj
        self._inbox[i] = (VALUE if success else RAISED_HERE, value)
        self._arrived()
        self._desk.changed()

    def _end(self) -> None:
        self._desk.forget(self)
        self._pool = None

    def _outcome(self, item: Item, what: str = "") -> tuple[bool, Any]:
        """What a result means: success, and a value or an exception."""
        kind, value = item
        if kind == VALUE:
            return True, value
        if kind == ERROR:
            return False, _revive(*value)
        if kind == DIED:
            pid, exitcode = value
            return False, WorkerDied(pid, exitcode, f"{what}{_name_of(self._func)}")
        if kind == UNREADABLE:
            error = MaybeDecodingError(value, f"what {_name_of(self._func)} returned cannot be unpickled")
            error.__cause__ = value
            return False, error
        return False, value


def _name_of(func: Any) -> str:
    return getattr(func, "__qualname__", None) or _safe_repr(func)


def _revive(pickled: bytes, text: str) -> BaseException:
    try:
        e = pickle.loads(pickled)
        if not isinstance(e, BaseException):
            raise TypeError(f"a pickled exception became {_safe_repr(e)}")
    except Exception as reason:
        reason.__cause__ = RemoteTraceback(text)
        e = MaybeDecodingError(reason, "the exception that a task raised cannot be unpickled")
        e.__cause__ = reason
        return e
    return rebuild_exc(e, text)


class ApplyResult(_Job):
    """The result of a task, which may not be there yet."""

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._ready = False
        self._success = False
        self._value: Any = None
        self._callback = callback
        self._error_callback = error_callback
        self._calling_back = False
        self._inbox = {}
        super().__init__(pool)

    def ready(self) -> bool:
        """Whether the result is there."""
        return self._ready

    def successful(self) -> bool:
        """Whether the task returned. ValueError if it is not ready."""
        if not self._ready:
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, or for `timeout` seconds."""
        if not self._ready:
            called_back = self._callback is not None or self._error_callback is not None
            self._desk.wait(self.ready, timeout, may_lead=not called_back)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise what the task raised. TimeoutError if it does not
        come within `timeout` seconds."""
        self.wait(timeout)
        if not self._ready:
            raise TimeoutError
        if self._success:
            return self._value
        try:
            raise self._value
        finally:
            del self  # the exception's traceback would lead back to the exception

    def _arrived(self) -> None:
        if self._ready:
            self._end()
        if self._ready or self._calling_back or not self._complete():
            return
        self._success, self._value = self._evaluate()
        if (self._callback if self._success else self._error_callback) is None:
            self._finish()
        else:
            self._desk.due(self)

    def _complete(self) -> bool:
        return bool(self._inbox)

    def _evaluate(self) -> tuple[bool, Any]:
        return self._outcome(self._inbox[0])

    def _call_back(self) -> None:
        """In the supervisor. An exception has nobody to go to but the threads' hook."""
        self._calling_back = True
        callback = self._callback if self._success else self._error_callback
        try:
            if not self._ready and callback is not None:
                callback(self._value)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        self._finish()

    def _fail(self, failure: Item) -> None:
        if not self._ready and not self._calling_back:
            self._success, self._value = self._outcome(failure)
            self._finish()

    def _finish(self) -> None:
        self._ready = True
        self._end()
        self._inbox = {}

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The list of the results of a map."""

    def __init__(
        self,
        pool: Pool,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._chunks = -(-length // chunksize) if chunksize > 0 else 0
        super().__init__(pool, callback, error_callback)

    def _complete(self) -> bool:
        return len(self._inbox) >= self._chunks

    def _evaluate(self) -> tuple[bool, Any]:
        inbox = self._inbox
        for key, item in inbox.items():  # in the order they came
            if item[0] != VALUE:
                return self._outcome(item, f"chunk {key} of the map of ")
        return True, list(itertools.chain.from_iterable(inbox[key][1] for key in range(self._chunks)))


class IMapIterator(_Job):
    """The results of an imap, in order, as they come."""

    def __init__(self, pool: Pool, in_chunks: bool = False) -> None:
        self._inbox = self._new_inbox()
        self._in_chunks = in_chunks
        self._chunk: Iterator[Any] = iter(())
        self._index = 0  # results, or chunks of them, that were passed on
        self._length: int | None = None
        self._failure: Item | None = None
        super().__init__(pool)

    def _new_inbox(self) -> MutableMapping[int, Item]:
        return {}

    def _take(self) -> tuple[int, Item]:
        """The next from the inbox. KeyError if it is not there."""
        return self._index, self._inbox.pop(self._index)

    def _has_next(self) -> bool:
        return self._index in self._inbox

    def _has_more_to_say(self) -> bool:
        return self._has_next() or self._index == self._length or self._failure is not None

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result, or what its task raised. TimeoutError if it does not come within `timeout`
        seconds; StopIteration after the last."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._desk.lock:
                for value in self._chunk:
                    return value
                if self._has_next():
                    value = self._value_of(*self._desk.board.guard(self._pass_on, self))
                    if not self._in_chunks:
                        return value
                    self._chunk = iter(value)
                    continue
                if self._index == self._length:
                    raise StopIteration
                if self._failure is not None:
                    raise self._outcome(self._failure)[1]
            self._desk.wait(self._has_more_to_say, _left(until))
            if not self._has_more_to_say():
                raise TimeoutError

    __next__ = next

    @staticmethod
    def _pass_on(self: IMapIterator) -> tuple[int, Item]:
        key, item = self._take()
        self._index += 1
        self._arrived()
        if self._length is None:
            self._desk.changed()  # whoever feeds may be waiting for this
        return key, item

    def _value_of(self, key: int, item: Item) -> Any:
        success, value = self._outcome(item, f"task {key} of the imap of ")
        if success:
            return value
        raise value

    def _arrived(self) -> None:
        with self._desk.lock:
            if self._index + len(self._inbox) == self._length:
                self._end()

    def _fail(self, failure: Item) -> None:
        self._failure = failure
        self._end()

    def _set_length(self, length: int) -> None:
        """There will be so many results, or chunks of them."""
        with self._desk.lock:
            self._length = length
            self._arrived()
            self._desk.changed()

    # -- feeding

    def _feed(self, tasks: Iterator[tuple[int, Task]], buffersize: int | None) -> None:
        """In a thread: send what the input gives. What the input raises comes at its place."""
        desk = self._desk
        count = 0

        def may_go_on() -> bool:
            ahead = buffersize is None or count - self._index < buffersize
            return self._failure is not None or (ahead and desk.has_room())

        def may_look() -> bool:
            return may_go_on() or (desk.joining and buffersize is not None)

        try:
            for key, task in tasks:
                desk.put(self, key, task)
                count = key + 1
                if not may_go_on():
                    desk.wait(may_look, may_lead=False)
                if self._failure is not None:
                    break
                if not may_go_on():
                    raise ValueError("Pool not running: it was joined before all results were asked for")
        except BaseException as e:
            self._set(count, (False, e))
            count += 1
        self._set_length(count)


class IMapUnorderedIterator(IMapIterator):
    """The results of an imap, in the order in which they come."""

    _inbox: collections.OrderedDict[int, Item]

    def _new_inbox(self) -> MutableMapping[int, Item]:
        return collections.OrderedDict()

    def _take(self) -> tuple[int, Item]:
        return self._inbox.popitem(last=False)

    def _has_next(self) -> bool:
        return bool(self._inbox)
