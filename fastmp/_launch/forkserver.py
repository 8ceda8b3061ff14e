"""The start method `forkserver`: the child is a copy of a small server, and is told what to do.

The arguments are pickled into a block of the arena that is given to the child, so neither side waits for the
other to read or write them. Descriptors among them travel with the request for the child.
"""

from __future__ import annotations

import os
import time

from .. import _core, forkserver, spawn
from .._at_once import at_once
from ..connection import Connection, wait
from ..process import BaseProcess
from . import fork

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._standby import Standby

__all__ = ["Popen"]

standby: Standby | None = None  # once somebody wants children to be forked ahead

LOST = 255  # the exit code of a child whose server was killed before it could tell
MOMENT = 5.0  # seconds, at most, between the end of a child and the word of a server that is busy


class Popen(fork.Popen):
    """A child of the fork server. Its sentinel is that of its process; the server tells the exit code, if the
    child has not."""

    method = "forkserver"
    DupFd = forkserver.DupFd

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> None:
        try:
            self._order(process_obj)
        except (ConnectionError, EOFError):  # the server has just died, and nothing has begun
            forkserver.await_end()
            self._order(process_obj)

    def _order(self, process_obj: BaseProcess) -> None:
        forkserver.ensure_running()
        self._fds: list[int] = []
        ahead = None if standby is None else standby.order(self, process_obj)
        if ahead is None:
            self._ask(process_obj)
        else:
            self._line = forkserver.Line(ahead.line)
        self._line.begin()
        if standby is not None:
            standby.refill()

    def _ask(self, process_obj: BaseProcess) -> None:
        """Have the server fork the child now."""
        self._fds.clear()
        self._child = child = _core.expect()
        block = spawn.pack(self, process_obj)
        own_sentinel: list[int] = []
        closing = map(os.close, own_sentinel)
        try:
            self._life = open_own_sentinel(own_sentinel)
            fds = [*own_sentinel, *self._fds]
            self._line = forkserver.connect_to_new_process(fds, child, block.give(child))
        finally:
            list(closing)

    @property
    def finalizer(self) -> Callable[[], None]:
        return self._release

    def _release(self) -> None:
        self._child.close()
        self._line.close()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while the child runs; waits for its end if `flag` is 0."""
        return self.wait(0 if flag & os.WNOHANG else None)

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, or None if the child still runs after `timeout` seconds."""
        if self.returncode is None:
            code = self._learn(timeout)
            if code is not None:
                self._line.heard()
                self._child.ended(code)
                self.returncode = code
        return self.returncode

    def _learn(self, timeout: float | None) -> int | None:
        """From the child itself, or else from the server."""
        until = None if timeout is None else time.monotonic() + timeout
        code = self._child.wait(timeout)
        if code is not None:
            return code
        try:
            code = self._line.exitcode(_left(until))
            if code is None and wait([self.sentinel], 0):
                code = self._line.exitcode(MOMENT)
        except EOFError:
            return LOST if wait([self.sentinel], _left(until)) else None
        return code


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def open_own_sentinel(fds: list[int]) -> Connection | None:
    """Add a descriptor that is readable when this process has ended; what must live until then."""
    try:
        at_once(fds.append, os.pidfd_open, os.getpid())
    except OSError:  # there are none here
        at_once(fds.extend, os.pipe)
        writer: Connection = at_once(Connection, fds.pop)
        return writer
    return None
