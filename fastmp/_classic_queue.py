"""Queues as they were: a buffer, a thread that feeds it into a pipe, and locks around the pipe's ends.

fastmp's queues have none of these. But libraries subclass Queue and SimpleQueue and reach for the parts:
they override the feeding thread, replace the ends of the pipe, take the locks. `mix_into` is called for
each subclass that is defined; to one that defines or mentions a classic name in its methods it gives a
base class from here, in front of fastmp's own. Such a subclass has the classic behaviour, with whatever
kind of locks its context makes, and never uses the queue in shared memory that it inherits as well.

    ClassicQueue.put -> _buffer -> the thread in _feed -> _wlock, _writer | _reader, _rlock -> get

`_sem` counts the free places of the queue. The thread is started by the first put of a process, and its
end is arranged by two finalizers: `_close` leaves the sentinel in the buffer, `_jointhread` waits for it.

A signal handler may raise wherever a call has returned, before its result has a name. So what must not be
lost, a lock that was taken or a message, is put into a list by the same call (`at_once`); and whether an item
is in the buffer is told by the iterator that it came out of. Locks are taken by `holding`; the feeding thread
takes them by `with`: handlers run in the main thread.

A subclass that overrides only `_on_queue_feeder_error` stays with shared memory; it gets Reporting, whose
put calls the hook with what cannot be pickled.
"""

from __future__ import annotations

import collections
import contextlib
import copyreg
import errno
import functools
import operator
import os
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full
from typing import Any

from . import connection
from ._at_once import at_once, holding
from ._core import SEM_VALUE_MAX
from ._finalize import Finalize, register_after_fork
from ._logging import debug, info
from ._spawning import assert_spawning
from ._threads import pause, report, start
from .process import is_exiting
from .reduction import ForkingPickler

__all__ = ["ClassicJoinableQueue", "ClassicQueue", "ClassicSimpleQueue", "Reporting", "mix_into"]

_sentinel = object()  # in the buffer: nothing follows

_HOOK = "_on_queue_feeder_error"
_CLASSIC_NAMES = frozenset(
    {
        "_after_fork",
        "_buffer",
        "_close",
        "_feed",
        "_finalize_close",
        "_finalize_join",
        "_jointhread",
        "_make_methods",
        "_notempty",
        "_opid",
        "_poll",
        "_reader",
        "_recv_bytes",
        "_reset",
        "_rlock",
        "_sem",
        "_send_bytes",
        "_start_thread",
        "_terminate_broken",
        "_thread",
        "_wlock",
        "_writer",
    }
)


def mix_into(subclass: type, classic: type) -> None:
    """Give a new subclass of a queue the base class `classic`, or Reporting, if it needs that."""
    if issubclass(subclass, classic):
        return
    if _is_classic(subclass):
        _prepend_base(subclass, classic)
    elif _HOOK in vars(subclass) and not issubclass(subclass, Reporting):
        _prepend_base(subclass, Reporting)


def _prepend_base(subclass: type, base: type) -> None:
    subclass.__bases__ = (base, *subclass.__bases__)


def _is_classic(subclass: type) -> bool:
    for name, member in vars(subclass).items():
        if name in _CLASSIC_NAMES:
            return True
        function = getattr(member, "__func__", getattr(member, "fget", member))
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType) and not _CLASSIC_NAMES.isdisjoint(code.co_names):
            return True
    return False


class _Hooked:
    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: Any) -> None:
        """Called with what could not be sent. For overriding."""
        sys.__excepthook__(type(e), e, e.__traceback__)


class _OneByOne:
    """put_many and get_many by way of put and get."""

    def put_many(self, iterable: Iterable[Any], block: bool = True, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        count = 0
        for obj in iterable:
            left = None if until is None else until - time.monotonic()
            try:
                self.put(obj, block, left)  # type: ignore[attr-defined]
            except Full:
                raise Full(count) from None
            count += 1
        return count

    def get_many(self, max_items: int, block: bool = True, timeout: float | None = None) -> list[Any]:
        if max_items < 1:
            raise ValueError("max_items must be at least 1")
        items = [self.get(block, timeout)]  # type: ignore[attr-defined]
        with contextlib.suppress(Empty):
            while len(items) < max_items:
                items.append(self.get(False))  # type: ignore[attr-defined]
        return items


class Reporting(_Hooked):
    """A queue whose subclass wants to hear of what cannot be pickled, instead of the caller of put."""

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        try:
            super().put(obj, block, timeout)  # type: ignore[misc]
        except Full:
            raise
        except Exception as e:
            if self.closed:  # type: ignore[attr-defined]
                raise
            self._on_queue_feeder_error(e, obj)

    put_many = _OneByOne.put_many


class _Pickled:
    """Pickled with its state when a process is spawned, unlike the queues in shared memory."""

    def __getstate__(self) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]


class ClassicQueue(_Hooked, _OneByOne, _Pickled):
    """The classic Queue; see the head of this file."""

    # What there is of it lives in the __dict__ of the subclass's instances.
    _maxsize: int
    _reader: Any
    _writer: Any
    _rlock: Any
    _wlock: Any
    _sem: Any
    _opid: int
    _ignore_epipe: bool
    _notempty: threading.Condition
    _buffer: collections.deque[Any]
    _thread: threading.Thread | None
    _jointhread: Finalize | None
    _joincancelled: bool
    _closed: bool
    _close: Finalize | None
    _send_bytes: Any
    _recv_bytes: Any
    _poll: Any

    def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
        self._maxsize = maxsize if maxsize > 0 else SEM_VALUE_MAX
        self._reader, self._writer = connection.stream_pipe(duplex=False)
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()
        self._sem = ctx.BoundedSemaphore(self._maxsize)
        self._opid = os.getpid()
        self._ignore_epipe = False
        self._reset()
        register_after_fork(self, type(self)._after_fork)

    def __getstate__(self) -> Any:
        assert_spawning(self)
        return (
            self._ignore_epipe,
            self._maxsize,
            self._reader,
            self._writer,
            self._rlock,
            self._wlock,
            self._sem,
            self._opid,
        )

    def __setstate__(self, state: Any) -> None:
        (
            self._ignore_epipe,
            self._maxsize,
            self._reader,
            self._writer,
            self._rlock,
            self._wlock,
            self._sem,
            self._opid,
        ) = state
        self._reset()

    def _after_fork(self) -> None:
        self._reset(after_fork=True)

    def _reset(self, after_fork: bool = False) -> None:
        """The part that each process has for itself, as it is before the first put."""
        if after_fork:
            self._notempty._at_fork_reinit()  # type: ignore[attr-defined]
        else:
            self._notempty = threading.Condition(threading.Lock())
        self._buffer = collections.deque()
        self._thread = None
        self._jointhread = None
        self._joincancelled = False
        self._closed = False
        self._close = None
        self._send_bytes = self._writer.send_bytes
        self._recv_bytes = self._reader.recv_bytes
        self._poll = self._reader.poll

    # ---- what users call

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        taken: list[bool] = []
        parcel = iter((obj,))
        try:
            at_once(taken.append, self._sem.acquire, block, timeout)
            if not taken[0]:
                raise Full
            holding(self._notempty, self._append, parcel)
        except BaseException:
            if taken and taken[0] and _is_full(parcel):
                self._sem.release()
            raise

    def _append(self, parcel: Iterator[Any]) -> None:
        """Move what is in the parcel to the buffer, as the last step."""
        if self._thread is None:
            self._start_thread()
        self._notempty.notify()
        self._buffer.extend(parcel)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if block and timeout is None:
            return ForkingPickler.loads(holding(self._rlock, self._take_message))
        return ForkingPickler.loads(self._receive_until(block, timeout))

    def _receive_until(self, block: bool, timeout: float | None) -> Any:
        until = time.monotonic() + (timeout or 0)
        taken: list[bool] = []
        try:
            at_once(taken.append, self._rlock.acquire, block, timeout)
            if not taken[0] or not self._poll(max(0.0, until - time.monotonic()) if block else 0):
                raise Empty
            return self._take_message()
        finally:
            if taken and taken[0]:
                self._rlock.release()

    def _take_message(self) -> Any:
        messages: list[Any] = []
        try:
            at_once(messages.append, self._recv_bytes)
        finally:
            if messages:
                self._sem.release()
        return messages[0]

    def get_nowait(self) -> Any:
        return self.get(False)

    def put_nowait(self, obj: Any) -> None:
        self.put(obj, False)

    def qsize(self) -> int:
        size: int = self._maxsize - self._sem.get_value()
        return size

    def empty(self) -> bool:
        return not self._poll()

    def full(self) -> bool:
        return bool(self._sem.get_value() == 0)

    def close(self) -> None:
        self._closed = True
        close = self._close
        if close is None:
            return
        try:
            close()
        except BaseException:  # perhaps before it left the sentinel, of which there may be two
            type(self)._finalize_close(self._buffer, self._notempty)
            raise
        finally:
            self._close = None

    def join_thread(self) -> None:
        assert self._closed, f"Queue {self!r} not closed"
        join, thread = self._jointhread, self._thread
        if join is not None and thread is not None and join.still_active():
            type(self)._finalize_join(weakref.ref(thread))
            join()  # which it does once: if the line above is interrupted, the end of the process still waits

    def cancel_join_thread(self) -> None:
        self._joincancelled = True
        if self._jointhread is not None:
            self._jointhread.cancel()

    # ---- the feeding thread

    def _start_thread(self) -> None:
        self._buffer.clear()
        run = functools.partial(
            type(self)._feed,
            self._buffer,
            self._notempty,
            self._send_bytes,
            self._wlock,
            self._reader.close,
            self._writer.close,
            self._ignore_epipe,
            self._on_queue_feeder_error,
            self._sem,
        )
        ticket = [run]  # all that a thread has: one whose start is interrupted may be kept for ever
        thread = threading.Thread(target=_redeem, args=(ticket,), name="QueueFeederThread", daemon=True)
        if not self._joincancelled:
            self._jointhread = Finalize(
                thread, type(self)._finalize_join, [weakref.ref(thread)], exitpriority=-5
            )
        self._close = Finalize(
            self, type(self)._finalize_close, [self._buffer, self._notempty], exitpriority=10
        )
        try:
            start(thread)
            self._thread = thread
        except BaseException:
            try:
                ticket.pop()
            except IndexError:  # it runs
                self._thread = thread
            raise

    @staticmethod
    def _finalize_join(twr: weakref.ref[threading.Thread]) -> None:
        thread = twr()
        if thread is not None and thread.is_alive():  # perhaps it could not be started
            thread.join()

    @staticmethod
    def _finalize_close(buffer: collections.deque[Any], notempty: threading.Condition) -> None:
        holding(notempty, _leave_sentinel, buffer, notempty)

    def _terminate_broken(self) -> None:
        """The other side is gone: the thread may give up what is in the buffer, and is waited for."""
        self._reader.close()
        self.close()
        self.join_thread()

    @staticmethod
    def _feed(
        buffer: collections.deque[Any],
        notempty: threading.Condition,
        send_bytes: Any,
        writelock: Any,
        reader_close: Any,
        writer_close: Any,
        ignore_epipe: bool,
        onerror: Any,
        queue_sem: Any,
    ) -> None:
        debug("starting thread to feed data to pipe")
        while True:
            try:
                obj = _take(buffer, notempty)
            except MemoryError:
                pause()
                continue
            if obj is _sentinel:
                debug("feeder thread got sentinel -- exiting")
                reader_close()
                writer_close()
                return
            try:
                _send(obj, send_bytes, writelock)
            except BaseException as e:
                if ignore_epipe and getattr(e, "errno", 0) == errno.EPIPE:
                    return
                if is_exiting():
                    info("error in queue thread: %s", e)
                    return
                _lose(e, obj, onerror, queue_sem)
            del obj  # not to be kept alive while waiting


def _leave_sentinel(buffer: collections.deque[Any], notempty: threading.Condition) -> None:
    notempty.notify()
    buffer.append(_sentinel)


def _is_full(parcel: Iterator[Any]) -> bool:
    return operator.length_hint(parcel) > 0


def _redeem(ticket: list[Callable[[], None]]) -> None:
    """The target of a thread: nothing, if who started it was interrupted and took the ticket back."""
    try:
        run = ticket.pop()
    except IndexError:
        return
    run()


def _send(obj: Any, send_bytes: Any, writelock: Any) -> None:
    message = ForkingPickler.dumps(obj)
    with writelock:
        send_bytes(message)


def _lose(e: BaseException, obj: Any, onerror: Any, queue_sem: Any) -> None:
    """An item cannot be sent, which is no reason to keep those behind it."""
    try:
        queue_sem.release()  # its place is free
        onerror(e, obj)
    except BaseException:
        report()


def _take(buffer: collections.deque[Any], notempty: threading.Condition) -> Any:
    with notempty:
        while not buffer:
            notempty.wait()
        return buffer.popleft()


class ClassicJoinableQueue(ClassicQueue):
    """The classic JoinableQueue."""

    _unfinished_tasks: Any
    _cond: Any

    def __init__(self, maxsize: int = 0, *, ctx: Any) -> None:
        super().__init__(maxsize, ctx=ctx)
        self._unfinished_tasks = ctx.Semaphore(0)
        self._cond = ctx.Condition()

    def __getstate__(self) -> Any:
        return super().__getstate__(), self._cond, self._unfinished_tasks

    def __setstate__(self, state: Any) -> None:
        state, self._cond, self._unfinished_tasks = state
        super().__setstate__(state)

    def _append(self, parcel: Iterator[Any]) -> None:
        holding(self._cond, self._append_and_count, parcel)

    def _append_and_count(self, parcel: Iterator[Any]) -> None:
        counted: list[None] = []
        try:
            at_once(counted.append, self._unfinished_tasks.release)
            super()._append(parcel)
        except BaseException:
            if counted and _is_full(parcel):
                self._unfinished_tasks.acquire(False)
            raise

    def task_done(self) -> None:
        holding(self._cond, self._count_down)

    def _count_down(self) -> None:
        if self._unfinished_tasks.get_value() == 1:
            self._cond.notify_all()  # who waits for the lock now, until this one is done
        if not self._unfinished_tasks.acquire(False):
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        holding(self._cond, self._cond.wait_for, self._is_done)

    def _is_done(self) -> bool:
        return bool(self._unfinished_tasks.get_value() == 0)


class ClassicSimpleQueue(_Pickled):
    """The classic SimpleQueue: a pipe with a lock at each end."""

    _reader: Any
    _writer: Any
    _rlock: Any
    _wlock: Any

    def __init__(self, *, ctx: Any) -> None:
        self._reader, self._writer = connection.stream_pipe(duplex=False)
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()

    def __getstate__(self) -> Any:
        assert_spawning(self)
        return self._reader, self._writer, self._rlock, self._wlock

    def __setstate__(self, state: Any) -> None:
        self._reader, self._writer, self._rlock, self._wlock = state

    def put(self, obj: Any) -> None:
        message = ForkingPickler.dumps(obj)
        holding(self._wlock, self._writer.send_bytes, message)

    def get(self) -> Any:
        return ForkingPickler.loads(holding(self._rlock, self._reader.recv_bytes))

    def put_many(self, iterable: Iterable[Any]) -> int:
        count = 0
        for obj in iterable:
            self.put(obj)
            count += 1
        return count

    def get_many(self, max_items: int) -> list[Any]:
        if max_items < 1:
            raise ValueError("max_items must be at least 1")
        items = [self.get()]
        while len(items) < max_items and not self.empty():
            items.append(self.get())
        return items

    def empty(self) -> bool:
        return not self._reader.poll()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
