"""The start method `spawn`: the child is a new interpreter.

Its arguments are pickled into a block of the arena that is given to it, before it exists; so the parent never
waits for the child to read them, however large they are.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import os

from .. import _core, spawn
from ..process import BaseProcess
from . import fork

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from .._standby import Standby

standby: Standby | None = None  # once somebody wants processes to be started ahead
received: dict[int, int] = {}  # in a child that was started ahead, by the numbers in the parent

__all__ = ["Popen"]


class _DupFd:
    """A descriptor in the arguments of a child, which inherits it under the same number, or received it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        """In the child: the descriptor."""
        fd = received.get(self._fd, self._fd)
        os.set_inheritable(fd, False)
        return fd


class Popen(fork.Popen):
    """A spawned child."""

    method = "spawn"
    DupFd = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: BaseProcess) -> None:
        if standby is None or not standby.order(self, process_obj):
            self._execute(process_obj)
        if standby is not None:
            standby.refill()

    def _execute(self, process_obj: BaseProcess) -> None:
        self._fds.clear()
        self._child = child = _core.expect()
        block = spawn.pack(self, process_obj)
        name, index, serial, _ = block.give(child)
        arena = _core.arena_fd()
        place = {"arena": arena, "owner": child.owner, "name": name, "index": index, "serial": serial}
        if _signal.SIGINT in _signal.pthread_sigmask(_signal.SIG_BLOCK, ()):
            place["blocked"] = 1
        command = spawn.get_command_line(**place)
        fds = {arena, *self._fds} if child.passed < 0 else {arena, child.passed, *self._fds}
        spawn.run(command, fds, child.born)
