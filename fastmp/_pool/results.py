"""What a caller gets for a task: ApplyResult, MapResult and the iterators of imap."""

from __future__ import annotations

import itertools
import pickle
import time
import types

from .. import _core
from .._at_once import holding
from .._core import TimeoutError
from .._threads import report
from .errors import MaybeDecodingError, RemoteTraceback, WorkerDied, _safe_repr, rebuild_exc
from .tasks import DIED, EACH, ERROR, ONE, RAISED_HERE, UNREADABLE, VALUE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .desk import _Desk
    from .pool import Pool
    from .tasks import Item


class _Job(_core.Job):
    """What all results have in common: tasks are out, and results arrive. Where they do, and what is done for
    each of them, is in C."""

    _pool: Pool | None
    _desk: _Desk

    @property
    def _cache(self) -> dict[int, Any]:
        return self._desk.jobs

    def _arrived(self) -> None:
        """All results are there, or may be. Does nothing the second time."""
        raise NotImplementedError

    def _fail(self, failure: Item) -> None:
        """There will be no more results."""
        raise NotImplementedError

    def _set(self, i: int, obj: tuple[bool, Any]) -> None:
        """A result that this process knows by itself: (success, value or exception)."""
        success, value = obj
        self._put_in(i, VALUE if success else RAISED_HERE, value)
        self._arrived()
        self._desk.changed()

    def _end(self) -> None:
        self._desk.board.forget(self)

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
        e = _load_exception(pickled)
    except BaseException as reason:
        if not isinstance(reason, Exception) and _can_be_loaded(pickled):
            raise  # by a signal handler, then
        reason.__cause__ = RemoteTraceback(text)
        e = MaybeDecodingError(reason, "the exception that a task raised cannot be unpickled")
        e.__cause__ = reason
        return e
    return rebuild_exc(e, text)


def _load_exception(pickled: bytes) -> BaseException:
    e = pickle.loads(pickled)
    if not isinstance(e, BaseException):
        raise TypeError(f"a pickled exception became {_safe_repr(e)}")
    return e


def _can_be_loaded(pickled: bytes) -> bool:
    try:
        _load_exception(pickled)
    except BaseException:
        return False
    return True


class ApplyResult(_Job, _core.AwaitedJob):
    """The result of a task, which may not be there yet."""

    _single = True

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._begin(pool, 1, False, callback, error_callback)

    def _begin(
        self,
        pool: Pool,
        total: int,
        in_chunks: bool,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        desk = pool._desk
        super().__init__(desk, desk.board, pool, None, total, True, False, in_chunks, self._single)
        self._callback = callback
        self._error_callback = error_callback

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
            self._desk.wait(self.ready, timeout, may_lead=not called_back, job=self)

    def _get(self, timeout: float | None) -> Any:
        """What get() doesn't find there at once."""
        self.wait(timeout)
        if not self._ready:
            raise TimeoutError
        if self._success:
            return self._value
        holding(self._desk.lock, int)  # who ends the pool holds it until that is done
        try:
            raise self._value
        finally:
            del self  # the exception's traceback would lead back to the exception

    def _arrived(self) -> None:
        if self._ready:
            self._end()
        if self._ready or self._calling_back or not self._may_finish():
            return
        try:
            outcome = self._evaluate()
        except RuntimeError:
            if not self._ready:
                raise
        if self._ready:  # a signal handler has ended it meanwhile
            return
        self._success, self._value = outcome
        if (self._callback if self._success else self._error_callback) is None:
            self._finish()
        else:
            self._desk.due(self)

    def _may_finish(self) -> bool:
        return self._complete()

    def _evaluate(self) -> tuple[bool, Any]:
        failed = self._failed()
        if failed is None:
            return True, self._all_values()
        key, kind, value = failed
        return self._outcome((kind, value), self._part(key))

    def _all_values(self) -> Any:
        return self._values()[0]

    def _part(self, key: int) -> str:
        return ""

    def _call_back(self) -> None:
        """In the supervisor. An exception has nobody to go to but the threads' hook."""
        self._calling_back = True
        callback = self._callback if self._success else self._error_callback
        try:
            if not self._ready and callback is not None:
                callback(self._value)
        except BaseException:
            report()
        finally:
            self._finish()

    def _fail(self, failure: Item) -> None:
        if not self._ready and not self._calling_back:
            self._success, self._value = self._outcome(failure)
            self._finish()

    def _finish(self) -> None:
        self._ready = True
        self._end()
        self._clear_items()

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The list of the results of a map."""

    _single = False

    def __init__(
        self,
        pool: Pool,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        total = -(-length // chunksize) if chunksize > 0 else 0
        self._begin(pool, total, chunksize > 1, callback, error_callback)

    def _all_values(self) -> Any:
        return self._values()

    def _part(self, key: int) -> str:
        return f"chunk {key} of the map of "


class IMapIterator(_Job, _core.IteratingJob):
    """The results of an imap, in order, as they come."""

    _ordered = True
    _failure: Item | None = None

    def __init__(self, pool: Pool, in_chunks: bool = False) -> None:
        desk = pool._desk
        super().__init__(desk, desk.board, pool, None, None, self._ordered, True, in_chunks, False)
        self._in_chunks = in_chunks

    def next(self, timeout: float | None = None) -> Any:
        """The next result, or what its task raised. TimeoutError if it does not come within `timeout`
        seconds; StopIteration after the last."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            there = holding(self._desk.lock, self._take_next)
            if there is not None:
                return there[0]
            left = None if until is None else max(0.0, until - time.monotonic())
            self._end_pause()
            self._desk.wait(self._satisfied, left, job=self)
            if not self._satisfied():
                raise TimeoutError

    def _take_next(self) -> tuple[Any] | None:
        there: tuple[Any] | None = self._next_quickly()
        if there is not None:
            return there
        item = self._pop()
        if item is not None:
            value = self._value_of(*item)
            if not self._in_chunks:
                return (value,)
            self._begin_chunk(value)
            return self._take_next()
        if self._index == self._total:
            raise StopIteration
        if self._failure is not None:
            raise self._outcome(self._failure)[1]
        return None

    def _value_of(self, key: int, kind: int, value: Any) -> Any:
        success, value = self._outcome((kind, value), f"task {key} of the imap of ")
        if success:
            return value
        raise value

    def _arrived(self) -> None:
        holding(self._desk.lock, self._end_if_complete)

    def _end_if_complete(self) -> None:
        if self._complete():
            self._end()

    def _fail(self, failure: Item) -> None:
        self._failure = failure
        self._ready = True
        self._end_pauses()
        self._end()

    def _set_length(self, length: int) -> None:
        """There will be so many results, or chunks of them."""
        with self._desk.lock:
            if self._failure is None:  # else not all was sent
                self._total = length
            self._arrived()
            self._desk.changed()

    # -- feeding

    def _feed(self, iterable: Iterable[Any], size: int) -> None:
        """In a thread: send what the input gives. What the input raises comes at its place."""
        try:
            if size == 1:
                self._send(ONE, iter(iterable))
            else:
                self._send(EACH, _chunks(iter(iterable), size))
        except BaseException as e:
            self._set(self._sent, (False, e))
            self._sent += 1
        self._set_length(self._sent)

    def _send(self, how: int, contents: Iterator[Any]) -> None:
        desk, func = self._desk, self._func
        while (rest := desk.board.stream(self, how, func, contents, desk.room())) is not None:
            for unsent in rest:
                desk.put(self, self._sent, (how, func, unsent, {}))
                self._sent += 1
            if not desk.has_room():
                desk.wait(desk.has_room, may_lead=False)
            if self._failure is not None:
                return
            if desk.joining and self._pause():
                raise ValueError("Pool not running: it was joined before all results were asked for")


def _chunks(iterator: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return iter(lambda: tuple(itertools.islice(iterator, size)), ())


class IMapUnorderedIterator(IMapIterator):
    """The results of an imap, in the order in which they come."""

    _ordered = False
