"""The start method `spawn`: the child is a new interpreter.

Its arguments are pickled into a block of the arena that is given to it, before it exists; so the parent never
waits for the child to read them, however large they are.
"""

from __future__ import annotations

import os

from .. import _core, spawn
from ..process import BaseProcess
from . import fork

__all__ = ["Popen"]


class _DupFd:
    """A descriptor in the arguments of a child, which inherits it under the same number."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        """In the child: the descriptor."""
        os.set_inheritable(self._fd, False)
        return self._fd


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
        self._child = child = _core.expect()
        block = spawn.pack(self, process_obj)
        name, index, serial, _ = block.give(child)
        arena = _core.arena_fd()
        place = {"arena": arena, "owner": child.owner}
        command = spawn.get_command_line(**place, name=name, index=index, serial=serial)
        fds = {arena, *self._fds} if child.passed < 0 else {arena, child.passed, *self._fds}
        child.born(spawn.run(command, fds))
        self.pid = child.pid
        self.sentinel = child.sentinel
        self.finalizer = child.close
