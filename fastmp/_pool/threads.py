"""ThreadPool: a pool whose workers are threads of this process.

It is Pool with another board and other workers. The board keeps tasks and results in queues of this process,
so nothing is pickled and exceptions arrive as they were raised. A thread cannot be ended from outside:
terminate() leaves those alone that are in the middle of a task, and they end with it.
"""

from __future__ import annotations

import os
import queue
import threading

from .._threads import insist
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
        self._running = threading.local()

    def _send(self, number: int, task: object) -> None:
        self._tasks.put((number, task))

    def bury(self, pid: int, kind: int, obj: object) -> bool:
        return True

    def close(self) -> None:
        self._tasks.put(_LEAVE)

    def end(self) -> None:
        super().end()
        self.close()

    # -- a worker's side

    def sit(self) -> None:
        """There are no seats."""

    def take(self) -> Any:
        got: Any = _LEAVE if self._ended else self._tasks.get()
        if got is _LEAVE or self._ended:
            self._tasks.put(_LEAVE)  # for the next one
            return None
        self._running.number, task = got
        return task

    def report(self, kind: int, obj: object, /) -> None:
        self._arrive(self._running.number, kind, obj)
        self._running.number = 0

    def work(self, target: Callable[..., object], *args: Any) -> None:
        """Be a worker. One that could not even report, as a process would die, is followed by another."""
        self._running.number = 0
        while not self._can(target, *args):
            pass

    def _can(self, target: Callable[..., object], *args: Any) -> bool:
        try:
            target(*args)
        except BaseException as e:
            if self._running.number:
                insist(self.report, RAISED_HERE, e)
            return False
        return True


class ThreadWorker:
    """What a worker process is to its pool, done by a thread."""

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._thread = threading.Thread(target=target, args=args, daemon=True)
        self._given_up = False
        self.daemon = True

    @property
    def name(self) -> str:
        return self._thread.name

    @name.setter
    def name(self, name: str) -> None:
        self._thread.name = name

    @property
    def pid(self) -> int | None:
        return None if self._thread.ident is None else os.getpid()

    @property
    def exitcode(self) -> int | None:
        return 0 if self._thread.ident is not None and not self.is_alive() else None

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout: float | None = None) -> None:
        if not self._given_up:
            self._thread.join(timeout)

    def terminate(self) -> None:
        self._given_up = True

    kill = terminate


class ThreadPool(Pool):
    """A pool of threads, with the calls of Pool."""

    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, target: Callable[..., object], args: tuple[Any, ...]) -> Any:
        _, board, *_ = args
        return ThreadWorker(board.work, (target, *args))

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    def _setup_queues(self) -> None:
        self._inqueue = self._outqueue = ThreadBoard()

    @staticmethod
    def _get_worker_sentinels(workers: Iterable[Any]) -> list[int]:
        return []
