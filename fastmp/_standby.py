"""Processes that are started ahead, so that a start costs a message.

    parent                                          process started ahead
    have it made, with one end of a socket pair     get ready, and wait for an order, with SIGINT blocked
    start: take one, pickle for it as for any,
    send where the block is, with descriptors  -->  be that child

It is a child like any other of its start method (_standby_spawn.py, _standby_forkserver.py): what it is to be
is decided by the parent when it starts a process, and it is used only if a new one would find the same. What
cannot be told to it makes up its circumstances. If they have changed it is dismissed, and others are made.
So is one to which Ctrl-C has come: that was not meant for the child that it would be. What comes later is.

Nobody but the process that had it made uses one that waits. It ends when its socket does; a fork of that
process closes its copies. Replacements are made by the start that leaves no more than half of them: a burst
is not slowed down by processes that begin.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import collections
import contextlib
from _thread import RLock  # threading.py has to do something in each child of the fork server

from . import _core, spawn
from ._at_once import locked
from ._finalize import Finalize

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any

    from .process import BaseProcess

__all__ = ["Ahead", "Standby"]

_INTERRUPT = 1 << _signal.SIGINT - 1


class Ahead:
    """A process that waits to be a child."""

    def __init__(self, child: _core.Child, line: socket.socket, circumstances: tuple[Any, ...]) -> None:
        self.child = child
        self.line = line
        self.circumstances = circumstances

    def is_fit(self) -> bool:
        """Whether it lives, and Ctrl-C has not come to it."""
        try:
            with open(f"/proc/{self.child.pid}/status", "rb", buffering=0) as file:
                status = file.read()
        except OSError:
            return False
        pending = int(_field(status, b"SigPnd"), 16) | int(_field(status, b"ShdPnd"), 16)
        return _field(status, b"State") not in b"ZX" and not pending & _INTERRUPT

    def tell(self, ticket: tuple[int, ...], fds: Sequence[int]) -> bool:
        """Tell it what to be; False if that is too much for a packet. ConnectionError if it has just died."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """It is to end."""
        self.line.close()

    def forget(self) -> None:
        """In a fork of its maker."""
        self.line.close()
        self.child.close()


class Standby:
    """The processes of one start method that this process has started ahead."""

    def __init__(self, launcher: Any) -> None:
        self._launcher = launcher  # looks here while there are any
        self._lock = RLock()
        self._count = 0
        self._waiting: collections.deque[Ahead] = collections.deque()  # the oldest first
        self._at_exit: Finalize | None = None

    def set(self, count: int, wait: bool) -> None:
        """Keep so many. With `wait`, return when they are ready."""
        self._change(count)
        if wait:
            self._await_ready()

    @locked("_lock")
    def _change(self, count: int) -> None:
        self._launcher.standby = self if count else None
        if count and self._at_exit is None:
            self._at_exit = Finalize(None, self._stop, exitpriority=0)
        self._count = count
        while len(self._waiting) > count:
            self._dismiss(self._waiting.pop())
        self._fill()

    def order(self, popen: Any, process_obj: BaseProcess) -> Ahead | None:
        """Have one be the process that `popen` starts: which one; None if there is none that can be told."""
        while ahead := self._take():
            popen._fds.clear()
            popen._child = ahead.child
            try:
                ticket = spawn.pack(popen, process_obj).give(ahead.child)
            except Exception:  # the process object can't be pickled
                del popen._child
                self._waiting.appendleft(ahead)
                raise
            try:
                if ahead.tell(ticket, popen._fds):
                    return ahead
            except ConnectionError:  # it has just died
                self._dismiss(ahead)
                continue
            self._waiting.appendleft(ahead)
            return None
        return None

    @locked("_lock")
    def refill(self) -> None:
        """After a start: make new ones, if no more than half of them are left."""
        with contextlib.suppress(OSError, EOFError):  # the child has started; this may wait
            if self._count_all() <= self._count // 2:
                self._fill()

    @locked("_lock")
    def _take(self) -> Ahead | None:
        """One that is what a new child would be; None if there is none."""
        now = self._circumstances()
        self._collect()
        while self._waiting:
            one: Ahead = self._waiting.popleft()
            if one.circumstances == now and one.is_fit():
                return one
            self._dismiss(one)
        return None

    def _stop(self) -> None:
        self.set(0, False)

    def _after_fork_in_child(self) -> None:
        for one in self._waiting:
            one.forget()
        self._launcher.standby = None
        self.__init__(self._launcher)  # type: ignore[misc]

    # ---- what each start method does in its own way

    def _circumstances(self) -> tuple[Any, ...]:
        """What a new process would find, and one that is made already cannot be told."""
        raise NotImplementedError

    def _fill(self) -> None:
        """Make as many as are missing."""
        raise NotImplementedError

    def _await_ready(self) -> None:
        """Until all that were made wait, or have ended."""
        raise NotImplementedError

    def _collect(self) -> None:
        """Those whose making takes a while, and that are there now."""

    def _count_all(self) -> int:
        """Those that wait, or will soon."""
        return len(self._waiting)

    def _dismiss(self, one: Ahead) -> None:
        """It is of no use any more."""
        one.dismiss()


def _field(status: bytes, name: bytes) -> bytes:
    """The first word of a field of /proc/PID/status."""
    return status.partition(b"\n%b:" % name)[2].split(maxsplit=1)[0]
