"""A process that removes named resources after the program has ended, however it ended.

fastmp needs none for its own objects: they live in memory without a name. But libraries register named
shared memory or semaphores, and expect a tracker whose descriptor they can hand to processes of their
own, which may run the standard library. So the protocol is that of the standard library's tracker.

Each process of a program holds the writing end of one pipe; the tracker (`_tracker`) reads the other end, a
line at a time, and ends when all of them are gone. A line is shorter than what a pipe takes at once, so that
writers do not interrupt each other:

    COMMAND:name:type                                         the name has no line break
    {"cmd": COMMAND, "rtype": type, "base64_name": name}      any name

    REGISTER      remove it in the end: if nobody unregistered it, it was leaked
    UNREGISTER    it has been removed, or is to stay
    LEAVE         remove it in the end without a word: its maker ended as it should (this one is ours alone)
    PROBE         nothing; tells whether the tracker lives

A family of processes has one tracker, started by the first who needs it, or at the latest when a process that
has loaded `shared_memory` starts a child: what that child will make is to outlive it. Children have the
descriptor from their parent, forked ones as a matter of course, others because their launcher hands it over
(get_state, set_state). A child whose parent had none starts its own if it needs one, and so does a copy that
the program made by os.fork(): such a copy may become a daemon, and the tracker is not to wait for that.

Children may load this module without ever using it, so what only a start of the tracker needs is loaded then.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import signal
import sys
import threading
import time
import warnings
from _posixshmem import shm_unlink  # type: ignore[import-not-found]
from collections import deque

import fastmp

from . import _core, reduction
from ._at_once import at_once, holding

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ensure_running", "getfd", "register", "unregister"]

_LINE_BYTES = 512  # the least that POSIX lets a pipe take at once
_NAME_BYTES = 255  # of a name of shared memory or a semaphore; keeps the longest line below _LINE_BYTES
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP_SECONDS = 5.0  # for the tracker to end when it was let go; a forked child may keep it alive
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where this package was found
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class ReentrantCallError(RuntimeError):
    """The tracker was asked for something while it was busy in the same thread."""


class ResourceTracker:
    """This process's access to the tracker, which the first use starts unless a parent did."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: deque[bytes] = deque()  # written by a finalizer while the lock's owner was busy
        self._fd: int | None = None
        self._pid: int | None = None  # None in processes that did not start it
        self._exitcode: int | None = None
        self._waitpid_timed_out = False  # it had not ended when _stop() gave up
        self._use_simple_format = True  # False: the other one for all names

    def getfd(self) -> int:
        """The writing end of the pipe to the tracker, which is started if need be."""
        self.ensure_running()
        assert self._fd is not None
        return self._fd

    def ensure_running(self) -> None:
        """Start the tracker, or a new one if it has died."""
        self._write(self._encode("PROBE", "0", "noop"))

    def register(self, name: str, rtype: str) -> None:
        """Have the resource removed at the end of the program."""
        self._write(self._encode("REGISTER", name, rtype))

    def unregister(self, name: str, rtype: str) -> None:
        """The resource has been removed, or is to stay. Where no tracker runs, nobody needs to know."""
        if self._fd is not None:
            self._write(self._encode("UNREGISTER", name, rtype))

    def leave(self, name: str, rtype: str) -> None:
        """This process ends as it should, and leaves a resource of its own to those that go on."""
        if self._fd is not None:
            self._write(self._encode("LEAVE", name, rtype))

    def _encode(self, command: str, name: str, rtype: str) -> bytes:
        return _encode(command, name, rtype, simple=self._use_simple_format)

    def _write(self, line: bytes) -> None:
        holding(self._lock, self._write_all, line)

    def _write_all(self, line: bytes) -> None:
        self._waiting.append(line)
        if self._busy:
            return  # a finalizer interrupted the loop below, which will write the line
        self._busy = True
        try:
            while self._waiting:
                self._write_line(self._waiting.popleft())
        finally:
            self._busy = False

    def _write_line(self, line: bytes) -> None:
        if self._fd is not None and not self._sent(line):
            self._forget_dead()
        if self._fd is None:
            self._launch()
            self._sent(line)

    def _sent(self, line: bytes) -> bool:
        assert self._fd is not None
        try:
            os.write(self._fd, line)
        except OSError:
            return False
        return True

    def _check_alive(self) -> bool:
        return self._fd is not None and self._sent(self._encode("PROBE", "0", "noop"))

    def _forget_dead(self) -> None:
        assert self._fd is not None
        os.close(self._fd)
        if self._pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        self._fd = self._pid = self._exitcode = None
        warnings.warn(
            "resource_tracker: process died unexpectedly, relaunching.  Some resources might leak.",
            stacklevel=7,
        )

    def _launch(self) -> None:
        ends: list[int] = []
        closing = map(os.close, ends)
        try:
            at_once(ends.extend, os.pipe)
            self._execute(ends[0])
            self._fd = ends[1]
            del ends[1]
        except BaseException:
            if self._pid is not None:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                self._pid = None
            raise
        finally:
            list(closing)

    def _execute(self, reader: int) -> None:
        inherited = [reader]
        with contextlib.suppress(AttributeError, OSError, ValueError):
            inherited.append(sys.stderr.fileno())
        executable = fastmp.spawn.get_executable() or sys.executable
        command = f"import sys; sys.path.append({_FOLDER!r}); from {__name__} import main; main({reader})"
        fastmp.util._spawn(
            executable,
            [executable, *fastmp.util._args_from_interpreter_flags(), "-c", command],
            inherited,
            functools.partial(setattr, self, "_pid"),
            _SIGNALS,  # until the tracker ignores them: a Ctrl-C in between would kill it
        )

    def _stop(self, *, wait_timeout: float | None = None) -> None:
        """Let go of the tracker and wait for its end, which comes when all others have let go, too."""
        with self._lock:
            if self._busy:
                raise ReentrantCallError("Reentrant call into the multiprocessing resource tracker")
            if self._fd is None:
                return
            os.close(self._fd)
            self._fd = None
            if self._pid is None:
                return
            try:
                self._exitcode = _reaped(self._pid, _STOP_SECONDS if wait_timeout is None else wait_timeout)
            except TimeoutError:
                self._waitpid_timed_out = True
            self._pid = None

    def _adopt(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        with self._lock:
            before, self._fd, self._pid = self._fd, fd, None
            if before is not None:
                os.close(before)

    def _after_fork_in_child(self) -> None:
        # The tracker is the parent's child, but it serves those that the package starts as well.
        if self._fd is not None and not _core.is_forking():
            os.close(self._fd)
            self._fd = None
        self._lock = threading.RLock()
        self._busy = False
        self._waiting.clear()
        self._pid = self._exitcode = None


def launched_here() -> bool:
    """Whether the tracker ends with this process, and not with one that it descends from."""
    return _resource_tracker._pid is not None


def expect_child() -> None:
    """A child is about to be started, which may make named segments that others are to use."""
    if _resource_tracker._fd is None and "fastmp.shared_memory" in sys.modules:
        ensure_running()


def get_state() -> Any:
    """What a child that is being pickled for needs to reach the tracker, if there is one."""
    expect_child()
    fd = _resource_tracker._fd
    return None if fd is None else reduction.DupFd(fd)


def set_state(state: Any) -> None:
    """In the child: use the tracker of its family."""
    if state is not None:
        _resource_tracker._adopt(state.detach())


def main(fd: int) -> None:
    """The tracker's process."""
    fastmp._tracker.serve(fd)


def _encode(command: str, name: str, rtype: str, simple: bool) -> bytes:
    if simple and "\n" not in name and name.isascii():
        line = f"{command}:{name}:{rtype}\n".encode("ascii")
        if len(line) > _LINE_BYTES:
            raise ValueError("msg too long")
        return line
    raw = os.fsencode(name)
    if len(raw) > _NAME_BYTES:
        raise ValueError(f"resource name too long (max {_NAME_BYTES} bytes)")
    encoded = binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).decode("ascii")
    return f'{{"cmd":"{command}","rtype":"{rtype}","base64_name":"{encoded}"}}\n'.encode("ascii")


def _reaped(pid: int, seconds: float) -> int | None:
    """The exit code of the tracker when it has ended; None if somebody else knows; TimeoutError."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while time.monotonic() < deadline:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    raise TimeoutError


def _unlink_nothing(name: str) -> None:
    pass


# What our own objects are registered as. The tracker knows more types, of what others register (_tracker).
_CLEANUP_FUNCS: dict[str, Callable[[str], object]] = {
    "noop": _unlink_nothing,
    "shared_memory": shm_unlink,
}

_resource_tracker = ResourceTracker()
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd
leave = _resource_tracker.leave

os.register_at_fork(after_in_child=_resource_tracker._after_fork_in_child)
