"""ThreadPool: a pool whose workers are threads of this process.

It is Pool with another board and other workers. The board keeps tasks and results in queues of this process,
so nothing is pickled and exceptions arrive as they were raised. A thread cannot be ended from outside:
terminate() leaves those alone that are in the middle of a task, and they end with it. join() waits for all
others, and gives these a moment. They are the only threads that may be there after it.
"""

from __future__ import annotations

import os
import queue
import threading

from .._threads import insist, start
from .local_board import LocalBoard
from .pool import Pool
from .tasks import RAISED_HERE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_LEAVE = object()  # to a worker


class ThreadBoard(LocalBoard):
    """What _core.Board is, among threads."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[int, int] = {}  # by thread: the task that it has, or 0 for the initializer

    def _send(self, number: int, task: object) -> None:
        self._tasks.put((number, task))

    def bury(self, pid: int, kind: int, obj: object) -> bool:
        return True

    def close(self) -> None:
        self._tasks.put(_LEAVE)

    def end(self) -> None:
        super().end()
        self.close()

    def runs_in(self, thread: int | None) -> bool:
        """Whether the thread runs what is the user's. Once the board has ended it begins nothing any more."""
        return thread in self._running

    # -- a worker's side

    def sit(self) -> None:
        del self._running[threading.get_ident()]

    def take(self) -> Any:
        got: Any = _LEAVE if self._ended else self._tasks.get()
        if got is _LEAVE or not self._begin(got[0]):
            self._tasks.put(_LEAVE)  # for the next one
            return None
        return got[1]

    def _begin(self, number: int) -> bool:
        me = threading.get_ident()
        self._running[me] = number
        if not self._ended:  # after that was said, for runs_in()
            return True
        del self._running[me]
        return False

    def report(self, kind: int, obj: object, /) -> None:
        me = threading.get_ident()
        self._arrive(self._running[me], kind, obj)
        del self._running[me]

    def work(self, target: Callable[..., object], *args: Any) -> None:
        """Be a worker. One that could not even report, as a process would die, is followed by another."""
        while self._begin(0) and not self._can(target, *args):
            pass

    def _can(self, target: Callable[..., object], *args: Any) -> bool:
        me = threading.get_ident()
        try:
            target(*args)
        except BaseException as e:
            if number := self._running.get(me):
                insist(self._arrive, number, RAISED_HERE, e)
            return False
        finally:
            self._running.pop(me, None)
        return True


class ThreadWorker:
    """What a worker process is to its pool, done by a thread."""

    def __init__(self, board: ThreadBoard, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.thread = threading.Thread(target=board.work, args=(target, *args), daemon=True)
        self._board = board
        self._given_up = False
        self.daemon = True

    @property
    def name(self) -> str:
        return self.thread.name

    @name.setter
    def name(self, name: str) -> None:
        self.thread.name = name

    @property
    def pid(self) -> int | None:
        return None if self.thread.ident is None else os.getpid()

    @property
    def exitcode(self) -> int | None:
        return 0 if self.thread.ident is not None and not self.is_alive() else None

    def start(self) -> None:
        start(self.thread)

    def is_alive(self) -> bool:
        return self.thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        if self._given_up and self._board.runs_in(self.thread.ident):
            return
        if self.thread is not threading.current_thread():  # in which a dropped pool may end
            self.thread.join(timeout)

    def terminate(self) -> None:
        self._given_up = True

    kill = terminate


class ThreadPool(Pool):
    """A pool of threads, with the calls of Pool."""

    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, target: Callable[..., object], args: tuple[Any, ...]) -> Any:
        _, board, *_ = args
        return ThreadWorker(board, target, args)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    def _make_worker(self, mask: set[int]) -> Any:
        w: Any = super()._make_worker(mask)
        self._desk.threads.add(w.thread)
        return w

    def _setup_queues(self) -> None:
        self._inqueue = self._outqueue = ThreadBoard()

    @staticmethod
    def _get_worker_sentinels(workers: Iterable[Any]) -> list[int]:
        return []
