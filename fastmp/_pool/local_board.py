"""A board in this process: what _core.Board does for a pool, for tasks that travel in some other way.

Results wait in a queue of this process; the bell is an eventfd, as there.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import queue
import threading

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .desk import _Desk
    from .results import _Job

_NUDGE = object()  # to who collects


class LocalBoard:
    """The pool's side of a board. Subclasses send the tasks (`_send`), and bring the results to `_arrive`."""

    _bell = -1

    def __init__(self) -> None:
        self.guarded: dict[Any, int] = {}
        self.broken_off: list[Any] = []
        self.jobs: dict[int, Any] = {}
        self.leader: Any = None
        self.leader_thread = 0
        self.followers = 0
        self.closing = False
        self.plain = None
        self.runs = False
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._order = itertools.count()  # of results
        self._unread: dict[int, Any] = {}  # those that were taken out of the queue, and not delivered yet
        self._numbers = itertools.count(1)
        self._jobs: dict[int, _Job] = {}  # whose are the tasks that are out,
        self._keys: dict[int, int] = {}  # and which of its tasks they are
        self._listening = False
        self._ended = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        if self._bell >= 0:
            os.close(self._bell)

    # -- the pool's side

    @property
    def load(self) -> int:
        """Nothing is copied, so nothing piles up that is not in the caller's hands already."""
        return 0

    def watch(self, desk: _Desk, is_locked: Callable[[], bool], result_type: type) -> None:
        self._desk = desk

    def introduce(self, func: object, /) -> None:
        """All tasks go the same way."""

    def submit(self, *args: Any) -> None:
        """Every task needs more ado,"""

    def feed(
        self, job: object, how: int, func: object, items: object, size: int, key: int, *ends: int
    ) -> int:
        """those of a map, too;"""
        return key

    def stream(
        self, job: _Job, how: int, func: object, iterator: Iterator[Any], most: int
    ) -> tuple[Any, ...] | None:
        """what an iterator gives, too;"""
        if job._pause():
            return ()
        for contents in iterator:
            return (contents,)
        return None

    def lead(self, job: object, /) -> None:
        """and so does waiting for one."""

    def put(self, job: _Job, key: int, how: int, func: Any, args: Any, kwds: Any, dumps: None, /) -> int:
        number = next(self._numbers)
        self._jobs[number] = job
        self._keys[number] = key
        try:
            self._send(number, (how, func, args, kwds))
        except BaseException:
            self._forget_task(number)
            raise
        return self.load

    def _forget_task(self, number: int) -> None:
        self._keys.pop(number, None)
        self._jobs.pop(number, None)

    def forget(self, job: _Job, /) -> None:
        self.jobs.pop(job._job, None)
        job._pool = None
        if self.closing and not self.jobs:
            self.ring()

    def _send(self, number: int, task: object) -> None:
        raise NotImplementedError

    def _arrive(self, number: int, kind: int, value: object) -> None:
        self._results.put((next(self._order), (number, kind, value)))
        if self._listening:
            self._listening = False
            self.ring()

    def collect(self, timeout: float | None = None, job: _Job | None = None) -> bool:
        if not self._unread and not self._take(timeout):
            return False
        for place, result in list(self._unread.items()):
            if result is not _NUDGE:
                self._deliver(*result)
            self._unread.pop(place, None)
        return True

    def _take(self, timeout: float | None) -> bool:
        """Take a result out of the queue. That is one call of C code, in which no signal handler interrupts:
        between two the result could be lost."""
        if self._ended and self._results.empty():
            return False
        try:
            self._unread.update(itertools.starmap(self._results.get, [(timeout != 0, timeout)]))
        except queue.Empty:
            return False
        return True

    def _deliver(self, number: int, kind: int, value: Any) -> None:
        if number == 0:
            self._desk._initializer_raised(kind, value)
            return
        job = self._jobs.get(number)
        if job is not None and job._job in self.jobs:
            with contextlib.suppress(KeyError):  # one call again: it is put in once, here or by a handler
                collections.deque(map(job._put_in, map(self._keys.pop, [number]), [kind], [value]), 0)
            if job._complete():
                job._arrived()
        self._forget_task(number)

    def nudge(self) -> None:
        self._results.put((next(self._order), _NUDGE))

    def guard(self, function: Callable[..., Any], token: object, /, *args: Any) -> Any:
        try:
            self.guarded[token] = threading.get_ident()
            return function(token, *args)
        except BaseException:
            self.broken_off.append(token)
            self.ring()
            raise
        finally:
            self.guarded.pop(token, None)

    def fail(self, kind: int, obj: object, /) -> None:
        self._arrive(0, kind, obj)

    def listen(self) -> bool:
        self._listening = True
        if self._results.empty() and not self._unread:
            return True
        self._listening = False
        return False

    def stop_listening(self) -> None:
        self._listening = False

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def fileno(self) -> int:
        return self._bell

    def end(self) -> None:
        self._ended = True
        self.nudge()
