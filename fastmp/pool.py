"""Pools of worker processes.

    caller --> Board: tasks   --> worker          Board: the queues in shared memory (C)
    caller <-- Board: results <-- worker          _Desk: who of this process collects results
                                                  supervisor: a thread for all that nobody waits for

A task is pickled by the caller, straight into shared memory; when its result comes, the C core puts that
into the `_inbox` of the result object (ApplyResult, MapResult, IMapIterator) that the task belongs to, and
hands the result object to whoever collects, who tells it to look (`_arrived`).

Results are collected by who waits for one: the first thread that waits leads, the others follow, asleep
until theirs is there or until it is their turn to lead. So a call costs no switch of threads. When nobody
waits, the supervisor does it: it sleeps in poll() on the board's bell and the workers' sentinels. It also
replaces workers, and runs callbacks; a result with a callback is ready when the callback has run. Input
whose length or whose pace is unknown is taken by a thread of its own, so that it may block.

A worker that dies fails the one task that it had, for the board knows which that was. The supervisor
reports it like a result, behind those that the worker sent, and starts another one.

The main thread may be interrupted anywhere by a signal handler that raises. What must not be left half
done runs guarded (Board.guard): if it raises, the supervisor finds the token of the call in
`board.broken_off` and puts things right.

The threads know the _Desk, never the Pool, so that a pool which is dropped goes; the desk holds the pool
while work is out.
"""

from __future__ import annotations

import collections
import contextlib
import io
import itertools
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
import types
import warnings
import weakref

import fastmp

from . import _core, _logging
from ._core import ProcessError, TimeoutError
from ._finalize import Finalize
from .reduction import dumps

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
    from types import FrameType, TracebackType
    from typing import Any, NoReturn, Self, TypeAlias

    from .context import BaseContext
    from .process import BaseProcess

    Item: TypeAlias = tuple[int, Any]  # a kind and a value, as they come from a worker
    Task: TypeAlias = tuple[int, Any, Any, Any]

__all__ = ["Pool", "WorkerDied"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

# Kinds of results.
_UNREADABLE = -1  # made by Board.collect: the exception that unpickling raised
_VALUE = 0
_ERROR = 1  # (pickled exception, traceback as text)
_DIED = 2  # (pid, exit code)
_RAISED_HERE = 3  # the exception, which never was in another process

# What a task asks for.
_CALL = 0  # func(*args, **kwds)
_EACH = 1  # func(x) for x in args
_STAR = 2  # func(*x) for x in args

_LOAD_MOST = 16 << 20  # bytes of tasks that no worker has taken: with more, whoever feeds waits
_FEED_AT_ONCE = 1024  # tasks sent by the caller of an asynchronous call; a thread sends the rest
_SPARE_SEATS = 16  # for who changes _processes and repopulates the pool
_GRACE_SECONDS = 1.0  # from SIGTERM to SIGKILL, for workers with a handler of their own

_job_numbers = itertools.count()


# ---- errors --------------------------------------------------------------------------------------


class WorkerDied(ProcessError, RuntimeError):
    """The worker process that ran a task ended before the task did. The pool goes on."""

    def __init__(self, pid: int, exitcode: int, doing: str) -> None:
        super().__init__(pid, exitcode, doing)
        self.pid = pid
        self.exitcode = exitcode
        self.doing = doing

    def __str__(self) -> str:
        return f"worker process {self.pid} {_end_of_process(self.exitcode)} while it ran {self.doing}"


def _end_of_process(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


class PoolTerminated(ProcessError, RuntimeError):
    """The pool was terminated before the result came."""


class MaybeEncodingError(Exception):
    """A result cannot be pickled."""

    def __init__(self, exc: object, value: object) -> None:
        self.exc = _safe_repr(exc)
        self.value = _safe_repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_encoding_error, (type(self), self.exc, self.value)


def _rebuild_encoding_error(cls: type[MaybeEncodingError], exc: str, value: str) -> MaybeEncodingError:
    error = cls(None, None)
    error.exc, error.value = error.args = exc, value
    return error


class MaybeDecodingError(MaybeEncodingError):
    """A result cannot be unpickled."""

    def __str__(self) -> str:
        return f"Error receiving result: {self.value}. Reason: '{self.exc}'"


class RemoteTraceback(Exception):
    """The traceback of another process, as the cause of the exception that came from there."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return self.tb


class ExceptionWithTraceback:
    """An exception that takes its traceback along when it is pickled."""

    def __init__(self, exc: BaseException, tb: TracebackType | None) -> None:
        self.exc = exc
        self.tb = _quote_traceback(exc, tb)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """The exception, with a traceback from elsewhere as its cause."""
    exc.__cause__ = RemoteTraceback(tb)
    return exc


def _quote_traceback(exc: BaseException, tb: TracebackType | None) -> str:
    return '\n"""\n' + "".join(traceback.format_exception(type(exc), exc, tb)) + '"""'


def _safe_repr(obj: object) -> str:
    try:
        return repr(obj)
    except Exception as e:
        return f"<{type(obj).__name__} object whose repr() raises {type(e).__name__}>"


# ---- the worker ----------------------------------------------------------------------------------


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """The life of a worker: take a task, run it, send the result. Ends when there will be no more, or after
    `maxtasks`."""
    if maxtasks is not None and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError(f"Maxtasks {maxtasks!r} is not valid")
    _interrupt_only_tasks()
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as e:
            inqueue.fail(0, _ERROR, _describe(e))
            return
    inqueue.sit()
    for _ in itertools.repeat(None) if maxtasks is None else range(maxtasks):
        if not _serve(inqueue):
            return
    _logging.debug("worker exiting after %s tasks", maxtasks)


def _begin(mask: set[signal.Signals], *args: Any) -> None:
    """A worker's first step: it was started with SIGINT held back, so that nothing interrupts the start."""
    _interrupt_only_tasks()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    worker(*args)


def _serve(board: _core.Board) -> bool:
    """One task. False if there is none and will be none."""
    global _task_runs
    try:
        task = board.take()
        if task is None:
            return False
        kind, value = _VALUE, None
        _task_runs = True
        value = _run(*task)
        _task_runs = False
    except BaseException as e:
        _task_runs = False
        kind, value = _ERROR, _describe(e)
    if type(sys.stdout) is io.TextIOWrapper:
        _flush(sys.stdout)
    try:
        board.report(kind, value)
    except BaseException as e:
        board.report(_ERROR, _describe(MaybeEncodingError(e, value)))
    return True


def _run(how: int, func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    if how == _CALL:
        return func(*args, **kwds)
    if how == _EACH:
        return [func(x) for x in args]  # map() would take a StopIteration for the end
    return [func(*x) for x in args]


def _flush(stream: io.TextIOWrapper) -> None:
    """A pool is mostly terminated, so what a task printed is shown with its result, or never."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def _describe(e: BaseException) -> tuple[bytes, str]:
    """An exception for sending: pickled by itself, so that the traceback arrives even if the exception
    cannot be unpickled."""
    tb = e.__traceback__
    while tb is not None and tb.tb_frame.f_code in _OWN_CODE:
        tb = tb.tb_next
    text = _quote_traceback(e, tb)
    try:
        return dumps(e), text
    except Exception as reason:
        return dumps(MaybeEncodingError(reason, e)), text


_OWN_CODE = frozenset(function.__code__ for function in (_serve, _run, worker))

_task_runs = False  # in a worker: a task that Ctrl-C may interrupt is running


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _task_runs
    if _task_runs:
        _task_runs = False  # once for each task
        raise KeyboardInterrupt


def _interrupt_only_tasks() -> None:
    """Ctrl-C reaches all processes at the terminal, or in a notebook. It ends tasks, not workers; who waits
    for the pool decides what becomes of that. A handler that the program has set stays."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _interrupt)


# ---- the desk ------------------------------------------------------------------------------------


class _Waiter:
    """A thread that waits until `done()`. It may lead unless what it waits for comes from somebody else."""

    def __init__(self, done: Callable[[], bool], may_lead: bool) -> None:
        self.done = done
        self.may_lead = may_lead
        self.thread = threading.get_ident()
        self._asleep: Any = None

    def prepare(self) -> None:
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def sleep(self, seconds: float | None) -> None:
        self._asleep.acquire(True, -1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._asleep.release()


class _Desk:
    """Where a pool's results come in, and who collects them.

    `jobs` are the results that are not complete. `failure` is set when there will be no more results:
    what is out and what comes later fails with it.
    """

    def __init__(self, board: _core.Board) -> None:
        self.board = board
        self.lock = threading.RLock()  # for the fields below; a signal handler may come back for it
        self.jobs: dict[int, _Job] = {}
        self.keeper: Pool | None = None
        self.failure: Item | None = None
        self.closing = False
        self.joining = False
        self._feeds: dict[_Job, Callable[[], object] | None] = {}  # None: its thread runs
        self._leader: _Waiter | None = None
        self._followers: dict[_Waiter, None] = {}
        self._due: dict[ApplyResult, None] = {}
        self._inbox: dict[int, Item] = {}
        board.watch((self._inbox, 0, self))

    # -- waiting

    def wait(self, done: Callable[[], bool], timeout: float | None = None, may_lead: bool = True) -> None:
        """Return when done(), or `timeout` seconds passed."""
        if self.board.broken_off:  # perhaps by this thread, which may still be taken for the leader
            self._put_right()
        self.board.guard(self._wait, _Waiter(done, may_lead), timeout)

    def _wait(self, waiter: _Waiter, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        late = False
        while not (late or waiter.done()):
            play = self._lead if self._begin_to_lead(waiter) else self._follow
            late = play(waiter, until)
        with self.lock:
            if self._leader is waiter:
                self._leader = None
            if self._leader is None:
                self._hand_over()
            elif self._leader.done():  # by what a signal handler in its thread collected
                self.board.nudge()

    def _begin_to_lead(self, waiter: _Waiter) -> bool:
        with self.lock:
            if self._leader is None and waiter.may_lead:
                self._leader = waiter
                self.board.stop_listening()
            # The thread of a signal handler may be leading already.
            return self._leader is not None and self._leader.thread == waiter.thread

    def _lead(self, waiter: _Waiter, until: float | None) -> bool:
        done, collect = waiter.done, self.board.collect
        while not done():
            left = _left(until)
            owner = collect(left)
            if owner is not None:
                owner._arrived()
                if self._followers:
                    self._wake_followers()
            elif left == 0:
                return True
        return False

    def _follow(self, waiter: _Waiter, until: float | None) -> bool:
        left = _left(until)
        if left == 0:
            return True
        waiter.prepare()
        with self.lock:
            self._followers[waiter] = None
            if waiter.done() or (waiter.may_lead and self._leader is None):
                del self._followers[waiter]
                return False
        waiter.sleep(left)
        with self.lock:
            self._followers.pop(waiter, None)
        return False

    def _wake_followers(self) -> None:
        with self.lock:
            for waiter in self._followers:
                if waiter.done():
                    waiter.wake()

    def _hand_over(self) -> None:
        """Nobody leads: somebody who follows is to, or the supervisor listens."""
        for waiter in self._followers:
            if waiter.may_lead:
                waiter.wake()
                return
        if self.jobs and not self.board.listen():
            self.board.ring()

    def changed(self) -> None:
        """Something that somebody may wait for came about in this process."""
        with self.lock:
            self._wake_followers()
            if self._leader is not None and self._leader.done():
                self.board.nudge()

    # -- results

    def register(self, job: _Job) -> None:
        """Work is out, or about to be. Called guarded, with the job as the token."""
        with self.lock:
            self.jobs[job._job] = job
            self.keeper = job._pool
            if self.failure is not None:
                job._fail(self.failure)

    def forget(self, job: _Job) -> None:
        with self.lock:
            self.jobs.pop(job._job, None)
            if self.jobs:
                return
            self.keeper = None
            if self.closing:
                self.board.ring()  # the supervisor waits for this

    def put(self, job: _Job, key: int, task: Task) -> int:
        """Send a task. Returns the load."""
        if self.failure is not None:
            return 0
        try:
            return self.board.put(task, (job._inbox, key, job))
        except Exception as e:
            job._set(key, (False, e))
            return 0

    def attend(self) -> None:
        """Nobody may be waiting for what is on its way: let the supervisor look after it."""
        if self._leader is None:
            with self.lock:
                if self._leader is None:
                    self._hand_over()

    def due(self, result: ApplyResult) -> None:
        self._due[result] = None
        self.board.ring()

    def fail(self, failure: Item) -> None:
        """There will be no more results."""
        with self.lock:
            if self.failure is None:
                self.failure = failure
            for job in list(self.jobs.values()):
                job._fail(self.failure)
            self.board.end()
            self.changed()

    def _arrived(self) -> None:
        """The initializer raised in a worker."""
        self.fail(self._inbox[0])

    # -- the supervisor's part

    def collect(self) -> None:
        """All that nobody waits for: results, and callbacks that are due."""
        self.board.silence()
        self.wait(_never, 0)
        while self._due:
            result = next(iter(self._due))
            result._call_back()
            del self._due[result]
            self.changed()

    def _put_right(self) -> None:
        """Signal handlers raised in guarded calls. That may happen here as well, so all can be done again."""
        with self.lock:
            tokens = list(self.board.broken_off)
            for token in tokens:
                if self._leader is token:
                    self._leader = None
                self._followers.pop(token, None)
                if isinstance(token, _Job):
                    token._fail((_RAISED_HERE, RuntimeError("a signal handler raised in between")))
            for job in list(self.jobs.values()):
                job._arrived()
            if not self.jobs:
                self.keeper = None
            for waiter in self._followers:
                waiter.wake()
            del self.board.broken_off[: len(tokens)]

    # -- feeding

    def feed(self, job: _Job, tasks: Iterator[tuple[int, Task]], at_once: int | None) -> bool:
        """Send tasks. With `at_once`, only so many of them and without waiting: False if that wasn't all."""
        for key, task in tasks:
            load = self.put(job, key, task)
            if at_once is not None and (load > _LOAD_MOST or key + 1 >= at_once):
                return False
            if load > _LOAD_MOST:
                self.wait(self.has_room)
        return True

    def feed_rest(self, job: _Job, feeding: Callable[[], object]) -> None:
        """Go on in a thread. The supervisor starts it, for that must not be interrupted."""
        self._feeds[job] = feeding
        self.board.ring()

    def start_feeds(self) -> None:
        for job, feeding in list(self._feeds.items()):
            if feeding is not None:
                self._feeds[job] = None
                threading.Thread(
                    target=self._run_feed, args=(job, feeding), name="PoolFeeder", daemon=True
                ).start()

    def _run_feed(self, job: _Job, feeding: Callable[[], object]) -> None:
        try:
            feeding()
        finally:
            del self._feeds[job]
            self.board.ring()

    def is_fed(self) -> bool:
        return bool(self._feeds)

    def has_room(self) -> bool:
        return self.failure is not None or self.board.load <= _LOAD_MOST // 2


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _never() -> bool:
    return False


# ---- results -------------------------------------------------------------------------------------


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
        self._inbox[i] = (_VALUE if success else _RAISED_HERE, value)
        self._arrived()
        self._desk.changed()

    def _end(self) -> None:
        self._desk.forget(self)
        self._pool = None

    def _outcome(self, item: Item, what: str = "") -> tuple[bool, Any]:
        """What a result means: success, and a value or an exception."""
        kind, value = item
        if kind == _VALUE:
            return True, value
        if kind == _ERROR:
            return False, _revive(*value)
        if kind == _DIED:
            pid, exitcode = value
            return False, WorkerDied(pid, exitcode, f"{what}{_name_of(self._func)}")
        if kind == _UNREADABLE:
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
            if item[0] != _VALUE:
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


# ---- the pool ------------------------------------------------------------------------------------


class Pool:
    """Worker processes that run tasks."""

    _wrap_exception = True

    @staticmethod
    def Process(ctx: BaseContext, *args: Any, **kwds: Any) -> BaseProcess:
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None:
        self._state = INIT
        self._pool: list[BaseProcess] = []
        if processes is None:
            processes = _core.cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._ctx = context or fastmp.get_context()
        self._processes = processes
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasksperchild = maxtasksperchild
        self._owner_pid = os.getpid()
        self._stillborn = 0
        self._setup_queues()
        self._desk = _Desk(self._board)
        self._cache = self._desk.jobs
        self._supervisor = threading.Thread(
            target=_supervise, args=(self._desk, weakref.ref(self)), name="PoolSupervisor", daemon=True
        )
        try:
            self._repopulate_pool()
            self._supervisor.start()
        except BaseException:
            self._state = TERMINATE
            _terminate_pool(self._desk, self._pool)
            raise
        self._terminate = Finalize(self, _terminate_pool, args=(self._desk, self._pool), exitpriority=15)
        self._state = RUN

    def __del__(self) -> None:
        if self._state == RUN and self._owner_pid == os.getpid():
            warnings.warn(f"unclosed running pool {self!r}", ResourceWarning, stacklevel=1, source=self)

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.terminate()

    # -- calls

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        """func(*args, **kwds) in a worker."""
        return self._apply(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult:
        """The same, without waiting. The callbacks get the result, or what was raised."""
        result = self._apply(func, args, kwds, callback, error_callback)
        self._desk.attend()
        return result

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """[func(x) for x in iterable], cut into chunks which are tasks."""
        values: list[Any] = self._map(_EACH, func, iterable, chunksize, at_once=None).get()
        return values

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """The same, without waiting."""
        return self._map(_EACH, func, iterable, chunksize, _FEED_AT_ONCE, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """[func(*x) for x in iterable], cut into chunks which are tasks."""
        values: list[Any] = self._map(_STAR, func, iterable, chunksize, at_once=None).get()
        return values

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """The same, without waiting."""
        return self._map(_STAR, func, iterable, chunksize, _FEED_AT_ONCE, callback, error_callback)

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> IMapIterator:
        """map as an iterator. With `buffersize` the input is taken only so many tasks ahead of the results
        that were asked for."""
        result: IMapIterator = self._imap(IMapIterator, func, iterable, chunksize, buffersize)
        return result

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> IMapUnorderedIterator:
        """imap with the results in the order in which they come."""
        result: IMapUnorderedIterator = self._imap(
            IMapUnorderedIterator, func, iterable, chunksize, buffersize
        )
        return result

    def _apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult:
        self._check_running()
        result = ApplyResult(self, callback, error_callback)
        result._func = func
        self._desk.board.guard(self._feed_apply, result, (_CALL, func, args, kwds))
        return result

    def _feed_apply(self, result: ApplyResult, task: Task) -> None:
        self._desk.register(result)
        self._desk.put(result, 0, task)

    def _map(
        self,
        how: int,
        func: Callable[..., Any],
        iterable: Any,
        chunksize: int | None,
        at_once: int | None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        self._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        length = len(iterable)
        if chunksize is None:
            chunksize = -(-length // (len(self._pool) * 4 or 4))
        elif chunksize < 1 and length > 0:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        result = MapResult(self, chunksize, length, callback, error_callback)
        result._func = func
        tasks = enumerate((how, func, chunk, None) for chunk in _chunks(iterable, chunksize))
        self._desk.board.guard(self._feed_map, result, tasks, at_once)
        return result

    def _feed_map(self, result: MapResult, tasks: Iterator[tuple[int, Task]], at_once: int | None) -> None:
        desk = self._desk
        desk.register(result)
        if result._chunks == 0:
            result._arrived()
        if not desk.feed(result, tasks, at_once):
            desk.feed_rest(result, lambda: desk.feed(result, tasks, None))
        if at_once is not None:
            desk.attend()

    def _imap(
        self,
        kind: Callable[[Pool, bool], Any],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
    ) -> Any:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        result = kind(self, chunksize > 1)
        result._func = func
        self._desk.board.guard(self._feed_imap, result, iterable, chunksize, buffersize)
        return result

    def _feed_imap(
        self, result: IMapIterator, iterable: Iterable[Any], chunksize: int, buffersize: int | None
    ) -> None:
        desk, func = self._desk, result._func
        desk.register(result)

        def generate() -> Iterator[tuple[int, Task]]:
            if chunksize > 1:
                return enumerate((_EACH, func, chunk, None) for chunk in _chunks(iterable, chunksize))
            return enumerate((_CALL, func, (x,), {}) for x in iterable)

        if type(iterable) not in _SEQUENCES or buffersize is not None:
            desk.feed_rest(result, lambda: result._feed(_lazily(generate), buffersize))
        else:
            tasks = generate()
            if desk.feed(result, tasks, _FEED_AT_ONCE):
                result._set_length(-(-len(iterable) // chunksize))  # type: ignore[arg-type]
            else:
                desk.feed_rest(result, lambda: result._feed(tasks, None))
        desk.attend()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._owner_pid != os.getpid():
            raise ValueError("Pool not running in this process: it belongs to the one that made it")

    # -- workers

    def _setup_queues(self) -> None:
        self._board = _core.Board(self._processes * 2 + _SPARE_SEATS)
        self._inqueue = self._outqueue = self._board

    def _repopulate_pool(self) -> None:
        """Start workers until there are as many as there should be."""
        for _ in range(self._processes - len(self._pool)):
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._pool.append(self._start_worker(mask))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _logging.debug("added worker")

    def _start_worker(self, mask: set[Any]) -> BaseProcess:
        args = (
            mask,
            self._inqueue,
            self._outqueue,
            self._initializer,
            self._initargs,
            self._maxtasksperchild,
            self._wrap_exception,
        )
        w = self.Process(self._ctx, target=_begin, args=args)
        w.name = w.name.replace("Process", "PoolWorker")
        w.daemon = True
        w.start()
        return w

    def _join_exited_workers(self) -> bool:
        """Take those that have ended out of the pool; what they ran fails. True if there were any."""
        ended = [w for w in self._pool if w.exitcode is not None]
        for w in ended:
            self._bury(w)
            self._pool.remove(w)
        return bool(ended)

    def _bury(self, w: BaseProcess) -> None:
        assert w.pid is not None
        assert w.exitcode is not None
        _logging.debug("cleaning up worker %s", w.name)
        w.join()
        number = self._board.bury(w.pid)
        if number is None:
            self._stillborn += 1
        elif number:
            self._board.fail(number, _DIED, (w.pid, w.exitcode))
        if number is not None:
            self._stillborn = 0
        if self._stillborn > self._processes:
            doing = "its initializer" if self._initializer is not None else "its start"
            self._desk.fail((_RAISED_HERE, WorkerDied(w.pid, w.exitcode, doing)))

    def _maintain_pool(self) -> None:
        """Replace the workers that have ended."""
        with self._desk.lock:
            if self._join_exited_workers() and self._needs_workers():
                self._repopulate_pool()

    def _needs_workers(self) -> bool:
        if self._desk.failure is not None:
            return False
        return self._state in (INIT, RUN) or (self._state == CLOSE and bool(self._cache))

    # -- the supervisor

    def _attend(self) -> bool:
        """In the supervisor: do what there is to do. False if there will be nothing more."""
        if self._state == TERMINATE:
            return False
        self._desk.collect()  # first: an initializer's error ends it all
        self._maintain_pool()
        self._desk.collect()
        self._desk.start_feeds()
        if self._state in (INIT, RUN):
            return True
        with self._desk.lock:
            if self._state == CLOSE and (self._cache or self._desk.is_fed()):
                return True
            self._board.close()
            return False

    def _get_sentinels(self) -> list[int]:
        """Descriptors that become readable when the supervisor has something to do."""
        return [self._board.fileno()]

    @staticmethod
    def _get_worker_sentinels(workers: Iterable[BaseProcess]) -> list[int]:
        return [w.sentinel for w in workers]

    # -- the end

    def close(self) -> None:
        """No more calls; workers end when the work is done."""
        _logging.debug("closing pool")
        if self._state != RUN:
            return
        self._desk.closing = True
        self._state = CLOSE
        self._board.ring()

    def terminate(self) -> None:
        """End the workers at once. Results that are not there will not come."""
        _logging.debug("terminating pool")
        if self._owner_pid == os.getpid():
            self._state = TERMINATE
            self._terminate()

    def join(self) -> None:
        """Wait until the workers have ended. After close() or terminate()."""
        _logging.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._desk.joining = True
        self._desk.changed()
        self._supervisor.join()
        for w in list(self._pool):
            w.join()


_SEQUENCES = frozenset({list, tuple, range})  # input that can be taken at once, for to take it runs no code


def _chunks(iterable: Iterable[Any], size: int) -> Iterator[Any]:
    if type(iterable) in (list, tuple):
        return (iterable[start : start + size] for start in range(0, len(iterable), size or 1))  # type: ignore[index, arg-type]
    it = iter(iterable)
    return iter(lambda: tuple(itertools.islice(it, size)), ())


def _lazily(generate: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """What generate() returns; it is called when the first is asked for, and may raise then."""
    yield from generate()


def _supervise(desk: _Desk, pool_ref: weakref.ref[Pool]) -> None:
    """The supervisor thread. Asleep it does not hold the pool."""
    while True:
        pool = pool_ref()
        if pool is None or not pool._attend():
            return
        sentinels = [*pool._get_sentinels(), *pool._get_worker_sentinels(list(pool._pool))]
        del pool
        poll = select.poll()
        for fd in sentinels:
            poll.register(fd, select.POLLIN)
        poll.poll()


def _terminate_pool(desk: _Desk, workers: list[BaseProcess]) -> None:
    """At terminate(), at the exit of the process, or when nobody has the pool any more."""
    with desk.lock:
        desk.fail((_RAISED_HERE, PoolTerminated("the pool was terminated")))
        _end_workers(workers)
    desk.board.ring()


def _end_workers(workers: list[BaseProcess]) -> None:
    """Politely at first: a worker may have a handler for SIGTERM."""
    _signal_all(workers, signal.SIGTERM)
    until = time.monotonic() + _GRACE_SECONDS
    for w in workers:
        w.join(_left(until))
    _signal_all(workers, signal.SIGKILL)
    for w in workers:
        w.join()


def _signal_all(workers: list[BaseProcess], sig: signal.Signals) -> None:
    for w in workers:
        if w.exitcode is None:
            (w.kill if sig == signal.SIGKILL else w.terminate)()
