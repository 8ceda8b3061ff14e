"""The desk: where a pool's results come in, and who of this process collects them."""

from __future__ import annotations

import contextlib
import threading
import time

from ..reduction import UNPICKLABLE
from .packing import Unknown, is_kept
from .tasks import RAISED_HERE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .. import _core
    from .packing import Dumps, Packer
    from .pool import Pool
    from .results import ApplyResult, _Job
    from .tasks import Item, Task

_LOAD_MOST = 16 << 20  # bytes of tasks that no worker has taken: with more, whoever feeds waits


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

    def wake_if_done(self) -> None:
        if self.done():
            self.wake()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._asleep.release()


class _Desk:
    """Where a pool's results come in, and who collects them.

    The lock is given back whatever a signal handler raises, but for one thing: in CPython 3.13 an `if` that
    ends a loop directly in a `with` jumps back outside of the protection. So such loops call methods.

    `jobs` are the results that are not complete. `failure` is set when there will be no more results:
    what is out and what comes later fails with it.
    """

    def __init__(self, board: _core.Board, packer: Packer | None) -> None:
        self.board = board
        self.packer = packer  # if tasks are pickled
        self._plain: Any = None  # the function of the last task, if it goes the usual way
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
                waiter.wake_if_done()

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
        entry = (job._inbox, key, job)
        try:
            dumps = None if task[1] is self._plain else self._choose(task[1])
            try:
                return self.board.put(task, entry, dumps)
            except UNPICKLABLE as e:
                return self._put_by_value(task, entry, e)
        except Exception as e:
            job._set(key, (False, e))
            return 0

    def _choose(self, func: Any) -> Dumps | None:
        dumps = None if self.packer is None else self.packer.choose(func)
        self._plain = func if dumps is None and is_kept(func) else None
        return dumps

    def _put_by_value(self, task: Task, entry: tuple[Any, Any, Any], refusal: Exception) -> int:
        """What can't go by reference. If it can't be pickled at all, that counts which pickle refused."""
        if self.packer is None:
            raise refusal
        try:
            return self.board.put(task, entry, self.packer.by_value)
        except UNPICKLABLE as e:
            raise (e if isinstance(refusal, Unknown) else refusal) from None

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
                self._give_up(token)
            for job in list(self.jobs.values()):
                job._arrived()
            if not self.jobs:
                self.keeper = None
            for waiter in self._followers:
                waiter.wake()
            del self.board.broken_off[: len(tokens)]

    def _give_up(self, token: _Waiter | _Job) -> None:
        """The guarded call with this token raised."""
        if not isinstance(token, _Waiter):
            token._fail((RAISED_HERE, RuntimeError("a signal handler raised in between")))
            return
        self._followers.pop(token, None)
        if self._leader is token:
            self._leader = None

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
