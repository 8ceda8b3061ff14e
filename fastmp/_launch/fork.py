"""The start method `fork`: the child is a copy of its parent and goes on with the process object."""

from __future__ import annotations

import atexit
import os
import signal
import sys

from .. import _core
from ..process import BaseProcess, _flush_std_streams

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["Popen"]


class Popen:
    """A forked child: a handle whose pid cannot be taken over by another process."""

    method = "fork"
    finalizer: Callable[[], None] | None = None

    def __init__(self, process_obj: BaseProcess) -> None:
        _flush_std_streams()  # or what waits in them would be printed twice
        self.returncode: int | None = None
        self.kept: dict[object, object] = {}  # by who needs it: what has to exist until the child is launched
        self._launch(process_obj)
        self.kept.clear()

    def _launch(self, process_obj: BaseProcess) -> None:
        if tracker := sys.modules.get("fastmp.resource_tracker"):
            tracker.expect_child()
        child = _core.fork()
        if child is None:
            atexit._clear()
            live(lambda: process_obj._bootstrap())  # what is no process at all fails in there
        self._child = child
        self.pid = child.pid
        self.sentinel = child.sentinel
        self.finalizer = child.close

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while the child runs; waits for its end if `flag` is 0."""
        if self.returncode is None:
            self.returncode = self._child.poll() if flag & os.WNOHANG else self._child.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, or None if the child still runs after `timeout` seconds."""
        if self.returncode is None:
            self.returncode = self._child.wait(timeout)
        return self.returncode

    def interrupt(self) -> None:
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._child.kill(sig)

    def close(self) -> None:
        """Give the sentinel back."""
        if self.finalizer is not None:
            self.finalizer()


def live(bootstrap: Callable[[], int]) -> NoReturn:
    """The child, until its end. Whatever happens, it does not return into its parent's program."""
    code = 1
    try:
        code = bootstrap()
    finally:
        try:
            atexit._run_exitfuncs()
        finally:
            _core.leave()
            os._exit(code & 0xFF)
