"""A board over two queues that a subclass of Pool made in `_setup_queues` (joblib's and torch's do).

    caller --> _inqueue  --> worker      (number, task); None: leave
    caller <-- _outqueue <-- worker      (number, kind, value)

The queues pickle as the subclass likes. They are slower than the shared board, and a worker that dies in
the middle of using one may leave it broken, as with the standard library. But a worker says which task it
takes, so the task of a dead one fails here too. A thread of the pool's process brings what workers send.
"""

from __future__ import annotations

import os
import threading

from .._at_once import holding
from .._threads import insist, start
from ..connection import wait
from .local_board import LocalBoard
from .tasks import RAISED_HERE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SITS = -2  # kinds of what a worker sends beside results: it is there,
_TAKES = -3  # and it has taken that task. The value is its process id


class ClassicBoard(LocalBoard):
    """The pool's side."""

    def __init__(self, inqueue: Any, outqueue: Any, count_workers: Callable[[], int]) -> None:
        super().__init__()
        self._inqueue = inqueue
        self._outqueue = outqueue
        self._count_workers = count_workers
        self._sending = threading.RLock()  # a signal handler may come back for it
        self._receiving = threading.RLock()  # also for _running
        self._running: dict[int, int] = {}  # by process id: the task it has, or 0
        self._receiver: threading.Thread | None = None
        self._stop, self._stopper = os.pipe()

    def __del__(self) -> None:
        super().__del__()
        os.close(self._stop)
        os.close(self._stopper)

    def _send(self, number: int, task: object) -> None:
        holding(self._receiving, self._start_receiver)
        holding(self._sending, self._inqueue.put, (number, task))

    def _start_receiver(self) -> None:
        if self._receiver is None:
            receiver = threading.Thread(target=self._receive, name="PoolReceiver", daemon=True)
            start(receiver)
            self._receiver = receiver
            self._desk.threads.add(receiver)

    def _receive(self) -> None:
        while not self._ended and self._can(wait, [self._outqueue._reader, self._stop]):
            with self._receiving:
                self._can(self._receive_what_is_there)

    def _can(self, function: Callable[..., object], *args: Any) -> bool:
        """Call it. If it raises, as for a result that cannot be unpickled, nobody knows whose: all fail."""
        try:
            function(*args)
        except BaseException as e:
            insist(self.fail, RAISED_HERE, e)
            return False
        return True

    def _receive_what_is_there(self) -> None:
        while not self._ended and self._outqueue._reader.poll():
            number, kind, value = self._outqueue.get()
            if kind == _SITS:
                self._running[value] = 0
            elif kind == _TAKES:
                self._running[value] = number
            else:
                self._arrive(number, kind, value)

    def bury(self, pid: int, kind: int, obj: object) -> bool:
        with self._receiving:
            self._can(self._receive_what_is_there)
            number = self._running.pop(pid, None)
        if number:
            self._arrive(number, kind, obj)
        return number is not None

    def close(self) -> None:
        with self._sending:
            for _ in range(self._count_workers()):
                self._inqueue.put(None)
        self.end()  # there are no more results

    def end(self) -> None:
        if not self._ended:
            super().end()
            os.write(self._stopper, b"x")


class ClassicSeat:
    """A worker's side."""

    def __init__(self, inqueue: Any, outqueue: Any) -> None:
        self._inqueue = inqueue
        self._outqueue = outqueue
        self._number = 0
        self.runs = False

    def fail(self, kind: int, value: object) -> None:
        self._outqueue.put((0, kind, value))

    def sit(self) -> None:
        self._outqueue.put((0, _SITS, os.getpid()))

    def take(self) -> Any:
        got = self._inqueue.get()
        if got is None:
            return None
        self._number, task = got
        self._outqueue.put((self._number, _TAKES, os.getpid()))
        return task

    def report(self, kind: int, value: object) -> None:
        self._outqueue.put((self._number, kind, value))
