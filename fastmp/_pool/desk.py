"""The desk: where a pool's results come in, and who of this process collects them."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref

from .._at_once import locked
from .._threads import insist
from ..reduction import UNPICKLABLE
from .errors import PoolTerminated, _safe_repr
from .packing import Unknown, is_kept
from .results import ApplyResult, _Job
from .tasks import RAISED_HERE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .. import _core
    from .packing import Dumps, Packer
    from .results import IMapIterator, MapResult
    from .tasks import Item, Task

_LOAD_MOST = 16 << 20  # bytes of tasks that no worker has taken: with more, whoever feeds waits


class _Waiter:
    """A thread that waits until `done()`. It may lead unless what it waits for comes from somebody else."""

    def __init__(self, done: Callable[[], bool], may_lead: bool, job: _Job | None) -> None:
        self.done = done
        self.may_lead = may_lead
        self.job = job  # which satisfied is what `done` asks for
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


_locked = locked("lock")


class _Desk:
    """Where a pool's results come in, and who collects them.

    The lock is given back whatever a signal handler raises: wherever one may come, `holding` takes it.

    A signal handler comes when the interpreter looks for signals: at the beginning of a function, when a call
    returns, and at the end of each turn of a loop. It may raise, use the pool, or join it. So even under the
    lock all must be sound at each of these places: a handler has the lock if the thread that it interrupted
    has it, and where it waits, it lets others have it. A call of C code is interrupted only while it waits.
    What a call returned is lost if a handler raises before it is stored: that nobody can prevent.

    `jobs` are the results that are not complete. `failure` is set when there will be no more results:
    what is out and what comes later fails with it. The leader is `board.leader`: a _Waiter, or a job that is
    waited for by the C core itself.
    """

    def __init__(self, board: _core.Board, packer: Packer | None) -> None:
        self.board = board
        self.packer = packer  # if tasks are pickled
        self.lock = threading.RLock()  # for the fields below; a signal handler may come back for it
        self._is_locked_here: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]
        self.jobs: dict[int, _Job] = board.jobs
        self.failure: Item | None = None
        self.joining = False
        self._feeds: dict[_Job, Callable[[], object] | None] = {}  # None: its thread runs
        self.threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # all but the supervisor
        self._followers: dict[_Waiter, None] = {}
        self._due: dict[ApplyResult, None] = {}
        board.watch(self, self._is_locked_here, ApplyResult)

    # -- waiting

    def wait(
        self,
        done: Callable[[], bool],
        timeout: float | None = None,
        may_lead: bool = True,
        job: _Job | None = None,
    ) -> None:
        """Return when done(), or `timeout` seconds passed."""
        if self.board.broken_off:  # perhaps by this thread, which may still be taken for the leader
            self._put_right()
        self.without_lock(self.board.guard, self._wait, _Waiter(done, may_lead, job), timeout)

    def without_lock(self, function: Callable[..., object], *args: Any) -> None:
        """Call what waits for others. In a signal handler, the thread that it interrupted may have the lock,
        and those others may need it."""
        lock: Any = self.lock
        if not self._is_locked_here():
            function(*args)
            return
        released: list[object] = []
        try:
            released.extend(itertools.starmap(lock._release_save, [()]))  # one call: it is released and known
            function(*args)
        finally:
            for state in released:
                lock._acquire_restore(state)

    def _wait(self, waiter: _Waiter, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        late = False
        while not (late or waiter.done()):
            play = self._lead if self._begin_to_lead(waiter) else self._follow
            late = play(waiter, until)
        self._stop_waiting(waiter)

    @_locked
    def _stop_waiting(self, waiter: _Waiter) -> None:
        if self.board.leader is waiter:
            self.board.leader = None
        if self.board.leader is None:
            self._hand_over()
        elif self._leader_is_done():  # by what a signal handler in its thread collected
            self.board.nudge()

    def come_to_the_end(self) -> None:
        """If this is a signal handler that waits for the end of all: what the thread that it interrupted was
        to do is done here. Results are collected; what was being fed will never be complete."""
        me = threading.get_ident()
        self._end_feeds_of(me)
        if self.board.leader is not None and self.board.leader_thread == me:
            self.wait(lambda: not self.jobs)

    @_locked
    def _end_feeds_of(self, me: int) -> None:
        for token, thread in list(self.board.guarded.items()):
            if thread == me and isinstance(token, _Job):
                error = ValueError("Pool not running: it was joined before all tasks were sent")
                token._fail((RAISED_HERE, error))
        self._look_at_jobs()

    @_locked
    def _begin_to_lead(self, waiter: _Waiter) -> bool:
        board = self.board
        if board.leader is None and waiter.may_lead:
            board.leader_thread = waiter.thread
            board.leader = waiter
            board.stop_listening()
        # The thread of a signal handler may be leading already.
        return board.leader is not None and board.leader_thread == waiter.thread

    def _leader_is_done(self) -> bool:
        leader = self.board.leader
        done: bool = leader._satisfied() if isinstance(leader, _Job) else leader.done()
        return done

    def _lead(self, waiter: _Waiter, until: float | None) -> bool:
        done, collect, job = waiter.done, self.board.collect, waiter.job
        while not done():
            left = _left(until)
            if not collect(left, job) and left == 0:
                return True
            if self._followers:
                self._wake_followers()
        return False

    def _follow(self, waiter: _Waiter, until: float | None) -> bool:
        left = _left(until)
        if left == 0:
            return True
        waiter.prepare()
        if self._begin_to_follow(waiter):
            waiter.sleep(left)
            self._remove_follower(waiter)
        return False

    @_locked
    def _begin_to_follow(self, waiter: _Waiter) -> bool:
        self._followers[waiter] = None
        self.board.followers = len(self._followers)
        if waiter.done() or (waiter.may_lead and self.board.leader is None):
            self._remove_follower(waiter)
            return False
        return True

    @_locked
    def _remove_follower(self, waiter: _Waiter) -> None:
        self._followers.pop(waiter, None)
        self.board.followers = len(self._followers)

    @_locked
    def _wake_followers(self) -> None:
        for waiter in self._followers:
            waiter.wake_if_done()

    def _hand_over(self) -> None:
        """Nobody leads: somebody who follows is to, or the supervisor listens. Of those in one thread the
        last is asked: it is a signal handler, in the middle of the others."""
        seen = set()
        for waiter in reversed(self._followers):
            if waiter.may_lead and waiter.thread not in seen:
                waiter.wake()
                return
            seen.add(waiter.thread)
        if self.jobs and not self.board.listen():
            self.board.ring()

    @_locked
    def _stepped_down(self) -> None:
        """The C core doesn't lead any more, and there are others."""
        self._wake_followers()
        if self.board.leader is None:
            self._hand_over()

    @_locked
    def changed(self) -> None:
        """Something that somebody may wait for came about in this process."""
        self._wake_followers()
        if self.joining:
            for job in list(self._feeds):
                job._end_pauses()
        if self.board.leader is not None and self._leader_is_done():
            self.board.nudge()

    # -- results

    @_locked
    def register(self, job: _Job) -> None:
        """Work is out, or about to be. Called guarded, with the job as the token."""
        self.jobs[job._job] = job
        if self.failure is not None:
            job._fail(self.failure)

    def put(self, job: _Job, key: int, task: Task) -> int:
        """Send a task. Returns the load."""
        if self.failure is not None:
            return 0
        func = task[1]
        try:
            dumps = None if func is self.board.plain else self._choose(func)
            try:
                return self.board.put(job, key, *task, dumps)
            except UNPICKLABLE as e:
                return self._put_by_value(job, key, task, e)
        except Exception as e:
            job._set(key, (False, e))
            return 0

    def _choose(self, func: Any) -> Dumps | None:
        dumps = None if self.packer is None else self.packer.choose(func)
        self.board.introduce(func if dumps is None and is_kept(func) else None)
        return dumps

    def _put_by_value(self, job: _Job, key: int, task: Task, refusal: Exception) -> int:
        """What can't go by reference. If it can't be pickled at all, that counts which pickle refused."""
        if self.packer is None:
            raise refusal
        try:
            return self.board.put(job, key, *task, self.packer.by_value)
        except UNPICKLABLE as e:
            raise (e if isinstance(refusal, Unknown) else refusal) from None

    def attend(self) -> None:
        """Nobody may be waiting for what is on its way: let the supervisor look after it."""
        if self.board.leader is None:
            self._find_leader()

    @_locked
    def _find_leader(self) -> None:
        if self.board.leader is None:
            self._hand_over()

    def due(self, result: ApplyResult) -> None:
        self._due[result] = None
        self.board.ring()

    @_locked
    def fail(self, failure: Item) -> None:
        """There will be no more results."""
        if self.failure is None:
            self.failure = failure
        for job in list(self.jobs.values()):
            job._fail(self.failure)
        self.board.end()  # who leads sees it
        self._wake_followers()

    def break_down(self, reason: BaseException) -> None:
        """Nobody looks after the workers any more."""
        broken = PoolTerminated(f"the pool's supervisor failed: {_safe_repr(reason)}")
        broken.__cause__ = reason
        self.fail((RAISED_HERE, broken))

    def _initializer_raised(self, kind: int, value: object) -> None:
        self.fail((kind, value))

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

    @_locked
    def _put_right(self) -> None:
        """Signal handlers raised in guarded calls. That may happen here as well, so all can be done again."""
        tokens = list(self.board.broken_off)
        for token in tokens:
            self._give_up(token)
        self._look_at_jobs()
        for waiter in self._followers:
            waiter.wake()
        for token in tokens:
            self._is_put_right(token)

    def _is_put_right(self, token: _Waiter | _Job | None) -> None:
        with contextlib.suppress(ValueError):  # a signal handler has done the same
            self.board.broken_off.remove(token)

    def _look_at_jobs(self) -> None:
        """Finish those whose results have arrived: that may have been interrupted."""
        for job in list(self.jobs.values()):
            job._arrived()

    def _give_up(self, token: _Waiter | _Job | None) -> None:
        """The guarded call with this token raised. None: the C core did, and left nothing behind."""
        if isinstance(token, _Job):
            token._fail((RAISED_HERE, RuntimeError("a signal handler raised in between")))
        elif token is not None:
            self._remove_follower(token)
            if self.board.leader is token:
                self.board.leader = None

    # -- feeding

    def feed(self, job: MapResult | IMapIterator, tasks: Tasks, at_once: int | None = None) -> bool:
        """Send the tasks that were not sent yet. With `at_once`, only so many and without waiting: False if
        that wasn't all."""
        while not tasks.is_sent() and job._job in self.jobs:
            if at_once is not None and tasks.key >= at_once:
                return False
            load = self._send_some(job, tasks, at_once)
            if load > _LOAD_MOST:
                if at_once is not None:
                    return False
                self.wait(self.has_room)
        return True

    def _send_some(self, job: MapResult | IMapIterator, tasks: Tasks, at_once: int | None) -> int:
        """As many as go without more ado, or one."""
        end = tasks.count if at_once is None else min(tasks.count, at_once)
        key = tasks.key
        tasks.key = self.board.feed(job, tasks.how, tasks.func, tasks.items, tasks.size, key, end, _LOAD_MOST)
        if tasks.key == key:
            tasks.key = key + 1
            return self.put(job, key, tasks.get(key))
        return self.board.load

    def feed_rest(self, job: _Job, feeding: Callable[[], object]) -> None:
        """Go on in a thread. The supervisor starts it, for that must not be interrupted."""
        self._feeds[job] = feeding
        self.board.ring()

    def start_feeds(self) -> None:
        """None once the pool has failed, as it does at the end of the program: Python 3.11 crashes if it ends
        while a thread begins."""
        for job, feeding in list(self._feeds.items()):
            if feeding is not None:
                self._feeds[job] = None
                self._start_feed(job, feeding)

    def _start_feed(self, job: _Job, feeding: Callable[[], object]) -> None:
        try:
            feeder = threading.Thread(
                target=self._run_feed, args=(job, feeding), name="PoolFeeder", daemon=True
            )
            with self.lock:
                if self.failure is None:
                    feeder.start()
                    self.threads.add(feeder)
                    return
        except Exception as e:  # there are too many threads, or there is no memory
            insist(self._fail_job, job, e)
        self._feeds.pop(job, None)

    def _run_feed(self, job: _Job, feeding: Callable[[], object]) -> None:
        try:
            feeding()
        except BaseException as e:
            insist(self._fail_job, job, e)
        finally:
            self._feeds.pop(job, None)
            insist(self.board.ring)

    def _fail_job(self, job: _Job, reason: BaseException) -> None:
        """Not all its tasks were sent: it would never be complete."""
        with self.lock:
            job._fail((RAISED_HERE, reason))
            self.changed()

    def join_threads(self, seconds: float) -> None:
        """They end with the pool, but for what they do for the user: that may take longer than we wait."""
        until = time.monotonic() + seconds
        for thread in list(self.threads):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_left(until))

    def is_fed(self) -> bool:
        return bool(self._feeds)

    def has_room(self) -> bool:
        return self.failure is not None or self.board.load <= self.room()

    @staticmethod
    def room() -> int:
        """The load with which they go on who waited, or who don't know how much is to come."""
        return _LOAD_MOST // 2


class Tasks:
    """Those of a map over something that can be cut, and how far they were sent."""

    def __init__(self, how: int, func: Any, items: Any, size: int, count: int) -> None:
        self.how = how
        self.func = func
        self.items = items
        self.size = size  # of a chunk; 0: an item is a task
        self.count = count
        self.key = 0  # of the next to be sent

    def is_sent(self) -> bool:
        return self.key >= self.count

    def get(self, key: int) -> Task:
        size = self.size
        args = self.items[key * size : key * size + size] if size else self.items[key]
        return self.how, self.func, args, {}


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _never() -> bool:
    return False
