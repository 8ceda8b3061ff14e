"""The start method `fork`: the child is a copy of its parent and goes on with the process object."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import os
import sys
from _operator import attrgetter  # operator.py is slow to import
from _weakrefset import WeakSet
from atexit import _clear, _run_exitfuncs

from .. import _core
from .._core import exit
from ..process import BaseProcess, _flush_std_streams, prepare_for_children

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["Popen"]

TIMES = 10  # until the interpreter has adapted the code
_rehearsed = False


class Popen:
    """A forked child: a handle whose pid cannot be taken over by another process."""

    _child: _core.Child

    method = "fork"
    pid = property(attrgetter("_child.pid"))
    sentinel = property(attrgetter("_child.sentinel"))
    finalizer = property(attrgetter("_child.close"))

    def __init__(self, process_obj: BaseProcess) -> None:
        _flush_std_streams()  # or what waits in them would be printed twice
        self.returncode: int | None = None
        self.kept: dict[object, object] = {}  # by who needs it: what has to exist until the child is launched
        try:
            self._launch(process_obj)
            if isinstance(process_obj, BaseProcess):
                process_obj._popen = self  # known from here on, whatever a signal handler raises
        except BaseException:  # perhaps by a signal handler: nobody would know of the child
            self._abandon()
            raise
        if self.kept:
            self.kept.clear()

    def _launch(self, process_obj: BaseProcess) -> None:
        prepare_for_children()
        if not _rehearsed:
            rehearse()
        if tracker := sys.modules.get("fastmp.resource_tracker"):
            tracker.expect_child()
        bootstrap = getattr(process_obj, "_bootstrap", None)  # what is no process at all fails in the child
        _core.fork(0, live, (bootstrap, True), self)

    def _abandon(self) -> None:
        child = vars(self).get("_child")
        if child is not None and child.pid:
            child.kill(_signal.SIGKILL)
            child.wait()
            child.ended(-_signal.SIGKILL)

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
        self._send_signal(_signal.SIGINT)

    def terminate(self) -> None:
        self._send_signal(_signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(_signal.SIGKILL)

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._child.kill(sig)

    def close(self) -> None:
        """Give the sentinel back."""
        self.finalizer()


def rehearse() -> None:
    """Before the first fork: most of what threading does in each child after it, with a thread that is never
    started. So the interpreter adapts that code, and fills its caches, here and not in the copies that each
    child makes of thirty pages."""
    global _rehearsed
    threading = sys.modules.get("threading")
    if threading is None:
        return
    _rehearsed = True
    thread = threading.Thread()
    reset = getattr(thread, "_reset_internal_locks", bool)  # up to Python 3.12
    threads = WeakSet([thread])
    for _ in range(TIMES):
        set(threading.enumerate()).update(threads)
        reset(True)
        reset(False)


def live(bootstrap: Callable[[], int], forget_exits: bool = False) -> NoReturn:
    """The child, until its end. Whatever happens, it does not return into its parent's program."""
    code = 1
    try:
        if forget_exits:
            _clear()
        code = bootstrap()
    finally:
        try:
            _run_exitfuncs()
        finally:
            exit(code)
