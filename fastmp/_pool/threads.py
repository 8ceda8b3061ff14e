"""ThreadPool: a pool whose workers are threads of this process.

It is Pool with another board and other workers. The board keeps tasks and results in queues of this process,
so nothing is pickled and exceptions arrive as they were raised; the bell is an eventfd. A thread cannot be
ended from outside: terminate() leaves those alone that are in the middle of a task, and they end with it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time

from .pool import Pool

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_LEAVE = object()  # to a worker
_NUDGE = object()  # to who collects


class ThreadBoard:
    """What _core.Board is, among threads."""

    def __init__(self) -> None:
        self.broken_off: list[Any] = []
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._entries: dict[int, tuple[Any, Any, Any]] = {}
        self._running = threading.local()
        self._listening = False
        self._ended = False
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        os.close(self._bell)

    # -- the pool's side

    @property
    def load(self) -> int:
        """Nothing is copied, so nothing piles up that is not in the caller's hands already."""
        return 0

    def watch(self, entry: tuple[Any, Any, Any]) -> None:
        self._entries[0] = entry

    def put(self, task: object, entry: tuple[Any, Any, Any]) -> int:
        number = next(self._numbers)
        self._entries[number] = entry
        self._tasks.put((number, task))
        return self.load

    def collect(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else time.monotonic() + timeout
        while not (self._ended and self._results.empty()):
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                result = self._results.get(True, left) if left else self._results.get(left is None)
            except queue.Empty:
                return None
            if result is _NUDGE:
                return None
            number, item = result
            entry = self._entries.get(0) if number == 0 else self._entries.pop(number, None)
            if entry is not None:
                mapping, key, owner = entry
                mapping[key] = item
                return owner
        return None

    def nudge(self) -> None:
        self._results.put(_NUDGE)

    def guard(self, function: Callable[..., Any], token: object, /, *args: Any) -> Any:
        try:
            return function(token, *args)
        except BaseException:
            self.broken_off.append(token)
            self.ring()
            raise

    def bury(self, pid: int) -> int:
        return 0

    def fail(self, number: int, kind: int, obj: object, /) -> None:
        self._results.put((number, (kind, obj)))
        self._ring_if_listening()

    def listen(self) -> bool:
        self._listening = True
        if self._results.empty():
            return True
        self._listening = False
        return False

    def stop_listening(self) -> None:
        self._listening = False

    def _ring_if_listening(self) -> None:
        if self._listening:
            self._listening = False
            self.ring()

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def silence(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def fileno(self) -> int:
        return self._bell

    def close(self) -> None:
        self._tasks.put(_LEAVE)

    def end(self) -> None:
        self._ended = True
        self._tasks.put(_LEAVE)
        self.nudge()

    # -- a worker's side

    def sit(self) -> None:
        self._running.number = 0

    def take(self) -> Any:
        got = _LEAVE if self._ended else self._tasks.get()
        if got is _LEAVE or self._ended:
            self._tasks.put(_LEAVE)  # for the next one
            return None
        self._running.number, task = got
        return task

    def report(self, kind: int, obj: object, /) -> None:
        self._results.put((self._running.number, (kind, obj)))
        self._ring_if_listening()


class ThreadWorker:
    """What a worker process is to its pool, done by a thread."""

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._thread = threading.Thread(target=target, args=args, daemon=True)
        self._given_up = False
        self.pid = os.getpid()
        self.daemon = True

    @property
    def name(self) -> str:
        return self._thread.name

    @name.setter
    def name(self, name: str) -> None:
        self._thread.name = name

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
        return ThreadWorker(target, args)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs)

    def _setup_queues(self) -> None:
        self._board = self._inqueue = self._outqueue = ThreadBoard()  # type: ignore[assignment]

    @staticmethod
    def _get_worker_sentinels(workers: Iterable[Any]) -> list[int]:
        return []
