"""The pool: its workers, its supervisor, and the calls of its users."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.py makes enums, in copies of a dozen pages each time
import os
import select
import signal
import threading
import time
import warnings
import weakref

import fastmp

from .. import _core, _logging, _threads
from .._at_once import holding
from .._finalize import Finalize
from .classic import ClassicBoard
from .desk import Tasks, _Desk, _left
from .errors import PoolTerminated, WorkerDied
from .packing import Packer
from .results import ApplyResult, IMapIterator, IMapUnorderedIterator, MapResult
from .tasks import CALL, DIED, EACH, ONE, RAISED_HERE, STAR
from .worker import _begin

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NoReturn, Self

    from ..context import BaseContext
    from ..process import BaseProcess
    from .tasks import Task

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

_FEED_AT_ONCE = 1024  # tasks sent by the caller of an asynchronous call; a thread sends the rest
_SPARE_SEATS = 16  # for who changes _processes and repopulates the pool
_GRACE_SECONDS = 1.0  # from SIGTERM to SIGKILL, for workers with a handler; and for threads of the pool
_MOST_FAILURES = 20  # in a row, of the supervisor, until it gives up the pool
_PASSING = (MemoryError, OSError)  # errors that another time may not come


class Pool:
    """Worker processes that run tasks."""

    _wrap_exception = True

    _state = INIT

    _inqueue: Any  # the board itself, or a queue of a subclass
    _outqueue: Any
    _board: Any

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
        self._is_short = False  # of workers, for which nobody has tried to find others yet
        self._setup_queues()
        self._desk = self._make_desk()
        self._cache = self._desk.jobs
        self._supervisor = threading.Thread(
            target=_supervise, args=(self._desk, weakref.ref(self)), name="PoolSupervisor", daemon=True
        )
        try:
            self._repopulate_pool()
            _threads.start(self._supervisor)
            self._terminate = Finalize(self, _terminate_pool, args=(self._desk, self._pool), exitpriority=15)
            self._state = RUN
        except BaseException:
            self._state = TERMINATE
            _abandon(self._desk, self._pool)
            raise

    def __del__(self) -> None:
        if self._state == RUN and self._owner_pid == os.getpid():
            message = f"unclosed running multiprocessing pool {self!r}"
            warnings.warn(message, ResourceWarning, stacklevel=1, source=self)

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
        result = self._state == RUN and self._board.submit(self, func, args, kwds, None, None, False)
        return (result or self._apply(func, args, kwds)).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult:
        """The same, without waiting. The callbacks get the result, or what was raised."""
        if self._state == RUN:
            result: ApplyResult | None
            result = self._board.submit(self, func, args, kwds, callback, error_callback, True)
            if result is not None:
                return result
        result = self._apply(func, args, kwds, callback, error_callback)
        self._desk.attend()
        return result

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """[func(x) for x in iterable], cut into chunks which are tasks."""
        values: list[Any] = self._map(EACH, func, iterable, chunksize, at_once=None).get()
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
        return self._map(EACH, func, iterable, chunksize, _FEED_AT_ONCE, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """[func(*x) for x in iterable], cut into chunks which are tasks."""
        values: list[Any] = self._map(STAR, func, iterable, chunksize, at_once=None).get()
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
        return self._map(STAR, func, iterable, chunksize, _FEED_AT_ONCE, callback, error_callback)

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
        self._desk.board.guard(self._feed_apply, result, (CALL, func, args, kwds))
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
        if type(iterable) not in _SEQUENCES:
            iterable = list(iterable)
        length = len(iterable)
        if chunksize is None:
            chunksize = -(-length // (len(self._pool) * 4 or 4))
        elif chunksize < 1 and length > 0:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        result = MapResult(self, chunksize, length, callback, error_callback)
        result._func = func
        tasks = _cut(how, func, iterable, chunksize, length)
        self._desk.board.guard(self._feed_map, result, tasks, at_once)
        return result

    def _feed_map(self, result: MapResult, tasks: Tasks, at_once: int | None) -> None:
        desk = self._desk
        desk.register(result)
        if result._total == 0:
            result._arrived()
        if not desk.feed(result, tasks, at_once):
            desk.feed_rest(result, lambda: desk.feed(result, tasks))
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
        if type(iterable) not in _SEQUENCES or buffersize is not None:
            result._ahead = buffersize or 0
            desk.feed_rest(result, lambda: result._feed(iterable, chunksize))
        else:
            tasks = _cut(EACH, func, iterable, chunksize, len(iterable))  # type: ignore[arg-type]
            result._total = tasks.count
            result._arrived()
            if not desk.feed(result, tasks, _FEED_AT_ONCE):
                desk.feed_rest(result, lambda: desk.feed(result, tasks))
        desk.attend()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._owner_pid != os.getpid():
            raise ValueError("Pool not running in this process: it belongs to the one that made it")

    # -- workers

    def _setup_queues(self) -> None:
        """Make what workers inherit. A subclass may set `_inqueue` and `_outqueue` to queues of its own."""
        self._inqueue = self._outqueue = _core.Board(self._processes * 2 + _SPARE_SEATS)

    def _make_desk(self) -> _Desk:
        if self._inqueue is self._outqueue:
            self._board = self._inqueue
        else:
            self._board = ClassicBoard(self._inqueue, self._outqueue, self._pool.__len__)
        packs = isinstance(self._board, _core.Board)
        return _Desk(self._board, Packer(self._ctx.get_start_method() == "fork") if packs else None)

    def _repopulate_pool(self) -> None:
        """Start workers until there are as many as there should be."""
        if self._desk.packer is not None:
            self._desk.packer.add_workers()
        workers: list[BaseProcess] = []
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT})
            # All are made before the first is started: what is touched while there are copies is copied.
            workers += [self._make_worker(mask) for _ in range(self._processes - len(self._pool))]
            for w in workers:
                w.start()
                self._pool.append(w)
                _logging.debug("added worker")
        except BaseException:  # perhaps by a signal handler, when one had just started
            # The user's own kind of process may have no pid.
            started = [w for w in workers if getattr(w, "pid", None) is not None]
            self._pool += [w for w in started if w not in self._pool]
            raise
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _make_worker(self, mask: set[int]) -> BaseProcess:
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
        return w

    def _join_exited_workers(self) -> bool:
        """Take those that have ended out of the pool; what they ran fails. True if there were any."""
        ended = [w for w in self._pool if w.exitcode is not None]
        if ended:
            self._is_short = True  # first: what follows may fail, and is done again
        for w in ended:
            self._bury(w)
            self._pool.remove(w)
        return bool(ended)

    def _bury(self, w: BaseProcess) -> None:
        assert w.pid is not None
        assert w.exitcode is not None
        _logging.debug("cleaning up worker %s", w.name)
        w.join()
        had_seat = self._board.bury(w.pid, DIED, (w.pid, w.exitcode))
        self._stillborn = 0 if had_seat else self._stillborn + 1
        if self._are_stillborn() and self._desk.failure is None:
            doing = "its initializer" if self._initializer is not None else "its start"
            # As a message, behind what the workers said themselves, which may not be collected yet.
            self._board.fail(RAISED_HERE, WorkerDied(w.pid, w.exitcode, doing))

    def _are_stillborn(self) -> bool:
        return self._stillborn > self._processes

    def _maintain_pool(self) -> None:
        """Replace the workers that have ended. If that is not possible those that are left go on; if none is,
        all calls fail."""
        with self._desk.lock:
            self._join_exited_workers()
            if not self._is_short or not self._needs_workers():
                return
            try:
                self._repopulate_pool()
            except (OSError, EOFError, MemoryError) as e:
                if not self._pool:
                    self._desk.fail((RAISED_HERE, e))
            self._is_short = False

    def _needs_workers(self) -> bool:
        if self._desk.failure is not None or self._are_stillborn():
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
            if self._state == TERMINATE:  # meanwhile; what that means is terminate()'s to say
                return False
            if self._cache or self._desk.is_fed():
                return True
            if self._desk.failure is None:  # for a call that just begins
                self._desk.failure = (RAISED_HERE, ValueError("Pool not running"))
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
        self._board.closing = True
        self._state = CLOSE
        self._board.ring()

    def terminate(self) -> None:
        """End the workers at once. Results that are not there will not come."""
        _logging.debug("terminating pool")
        if self._owner_pid == os.getpid():
            self._state = TERMINATE
            _terminate_pool(self._desk, self._pool)
            self._terminate.cancel()  # now: if that was interrupted, it is still to be done

    def join(self) -> None:
        """Wait until the workers have ended. After close() or terminate()."""
        _logging.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._desk.joining = True
        self._desk.changed()
        self._desk.come_to_the_end()
        self._desk.without_lock(self._supervisor.join)
        for w in list(self._pool):
            w.join()
        self._desk.without_lock(self._desk.join_threads, _GRACE_SECONDS)


_SEQUENCES = frozenset({list, tuple, range})  # input that can be taken at once, for to take it runs no code


def _cut(how: int, func: Callable[..., Any], items: Any, size: int, length: int) -> Tasks:
    if size == 1:
        return Tasks(ONE if how == EACH else CALL, func, items, 0, length)
    return Tasks(how, func, items, size, -(-length // size) if size else 0)


def _supervise(desk: _Desk, pool_ref: weakref.ref[Pool]) -> None:
    """The supervisor thread. All that it does can be done again, so it goes on after an error that may pass.
    Any other is the end of the pool, and all who wait are told; so is one that comes again and again."""
    failures = 0
    while True:
        try:
            poll = _look_after(pool_ref)
            if poll is None:
                return
            poll.poll()
            failures = 0
        except BaseException as e:
            failures += 1
            if not isinstance(e, _PASSING) or failures == _MOST_FAILURES:
                _threads.insist(desk.break_down, e)
                return
            _threads.pause()


def _look_after(pool_ref: weakref.ref[Pool]) -> select.poll | None:
    """What the supervisor does between two sleeps: what it sleeps on, or None at the end. Asleep it does not
    hold the pool."""
    pool = pool_ref()
    if pool is None or not pool._attend():
        return None
    poll = select.poll()
    for fd in (*pool._get_sentinels(), *pool._get_worker_sentinels(list(pool._pool))):
        poll.register(fd, select.POLLIN)
    return poll


def _terminate_pool(desk: _Desk, workers: list[BaseProcess]) -> None:
    """At terminate(), at the exit of the process, or when nobody has the pool any more."""
    holding(desk.lock, _terminate_held, desk, workers)
    desk.board.ring()


def _terminate_held(desk: _Desk, workers: list[BaseProcess]) -> None:
    desk.fail((RAISED_HERE, PoolTerminated("the pool was terminated")))
    _end_workers(workers)


def _abandon(desk: _Desk, workers: list[BaseProcess]) -> None:
    """A worker could not be started: the others have done nothing yet, and end without ceremony."""
    desk.fail((RAISED_HERE, PoolTerminated("the pool could not be started")))
    for w in workers:
        getattr(w, "kill", w.terminate)()
    for w in workers:
        w.join()
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
