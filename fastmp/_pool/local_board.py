"""A board in this process: what _core.Board does for a pool, for tasks that travel in some other way.

Results wait in a queue of this process; the bell is an eventfd, as there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NUDGE = object()  # to who collects


class LocalBoard:
    """The pool's side of a board. Subclasses send the tasks (`_send`), and bring the results to `_arrive`."""

    def __init__(self) -> None:
        self.broken_off: list[Any] = []
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._entries: dict[int, tuple[Any, Any, Any]] = {}
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

    def put(self, task: object, entry: tuple[Any, Any, Any], dumps: None = None) -> int:
        number = next(self._numbers)
        self._entries[number] = entry
        try:
            self._send(number, task)
        except BaseException:
            del self._entries[number]
            raise
        return self.load

    def _send(self, number: int, task: object) -> None:
        raise NotImplementedError

    def _arrive(self, number: int, kind: int, value: object) -> None:
        self._results.put((number, (kind, value)))
        if self._listening:
            self._listening = False
            self.ring()

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

    def fail(self, number: int, kind: int, obj: object, /) -> None:
        self._arrive(number, kind, obj)

    def listen(self) -> bool:
        self._listening = True
        if self._results.empty():
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
