"""Process objects, and the tree of processes as this one sees it.

Every process knows itself (`current_process`), who started it (`parent_process`) and whom it started
(`active_children`). How a child comes to life is the business of the launcher that `_Popen` returns; in
the child the launcher calls `_bootstrap`, which makes this module speak of the child, runs `run` and
returns the exit code. What is done between the fork and `run`, and between `run` and the exit, is kept
short: each object that is touched there costs the copy of a page. That is why some functions are imported by
themselves: to look one up in its module touches its name and the type's cache.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import atexit
import io
import os
import sys
import time
from _thread import _count as count_threads
from _weakrefset import WeakSet
from itertools import count
from os import getpid
from sys import modules

import fastmp

from . import _beside, _core, _logging
from ._beside import UTIL
from ._finalize import _afterfork_registry, _finalizer_registry, run_after_forkers, run_finalizers
from ._spawning import get_spawning_popen

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

try:
    ORIGINAL_DIR: str | None = os.path.abspath(os.getcwd())
except OSError:
    ORIGINAL_DIR = None

_PARENT_CHECK_SECONDS = 0.05  # between looks at the parent where the kernel has no pidfd to wait for


def current_process() -> BaseProcess:
    """The object of the process this code runs in."""
    return _current_process


def parent_process() -> BaseProcess | None:
    """The process that started this one; None in a main process."""
    global _parent_process
    child = _current_process
    if _parent_process is None and child._parent_pid is not None:
        _parent_process = _ParentProcess(child._parent_name, child._parent_pid, _parent_sentinel, _child_pid)
    return _parent_process


def active_children() -> list[BaseProcess]:
    """The children of this process that are alive; those that have ended are reaped by the way."""
    _cleanup()
    return list(_children)


def _cleanup() -> None:
    for child in list(_children):
        popen = child._popen
        if popen is not None and popen.poll() is not None:
            _children.discard(child)


def forget_duties() -> None:
    """In the child, before `run`: nothing that the parent was to do later is inherited."""
    if _finalizer_registry:
        _finalizer_registry.clear()
    if _afterfork_registry.data:  # type: ignore[attr-defined]  # its len() is a call of Python
        run_after_forkers(_logging.info)
    if UTIL in modules:
        _beside.after_fork()


class BaseProcess:
    """An activity that runs in a process of its own: give it a `target`, or override `run`."""

    _start_method: str | None = None

    _identity: tuple[int, ...]
    _config: dict[str, Any]
    _parent_pid: int | None
    _parent_name: str
    _popen: Any
    _closed: bool
    _name: str

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        assert group is None, "group argument must be None for now"
        parent = _current_process
        self._identity = (*parent._identity, next(_process_counter))
        self._config = parent._config.copy()
        self._parent_pid = os.getpid()
        self._parent_name = parent.name
        self._popen = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs) if kwargs is not None else {}
        self._name = name or f"{type(self).__name__}-{':'.join(map(str, self._identity))}"
        if daemon is not None:
            self.daemon = daemon
        _dangling.add(self)

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        raise NotImplementedError

    def run(self) -> None:
        """What the process does: call the target. Subclasses may override it."""
        if self._target:
            if self._kwargs:
                self._target(*self._args, **self._kwargs)
            else:
                self._target(*self._args)

    def start(self) -> None:
        """Start the process. Once only, and by the process that made this object."""
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
        assert not _current_process._config.get("daemon"), (
            "daemonic processes are not allowed to have children"
        )
        _cleanup()
        try:
            self._popen = self._Popen(self)
        finally:
            if self._popen is not None:  # also if a signal handler raised once it was there
                # They have done their duty in the child; here they might refer back to this object.
                del self._target, self._args, self._kwargs
                _children.add(self)

    def interrupt(self) -> None:
        """Interrupt the process as Ctrl-C does: SIGINT."""
        self._check_closed()
        self._popen.interrupt()

    def terminate(self) -> None:
        """End the process: SIGTERM."""
        self._check_closed()
        self._popen.terminate()

    def kill(self) -> None:
        """End the process in a way that it cannot prevent: SIGKILL."""
        self._check_closed()
        self._popen.kill()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended, or for `timeout` seconds."""
        self._check_closed()
        assert self._parent_pid == os.getpid(), "can only join a child process"
        assert self._popen is not None, "can only join a started process"
        if self._popen.wait(timeout) is not None:
            _children.discard(self)
            if self._popen.method != "fork" and type(sys.stdout).__module__ == "ipykernel.iostream":
                fastmp._echo.await_echo()

    def is_alive(self) -> bool:
        """Whether the process has been started and has not ended."""
        self._check_closed()
        if self is _current_process:
            return True
        assert self._parent_pid == os.getpid(), "can only test a child process"
        if self._popen is None:
            return False
        if self._popen.poll() is None:
            return True
        _children.discard(self)
        return False

    def close(self) -> None:
        """Give back what this object holds. The process must have ended."""
        if self._popen is not None:
            if self._popen.poll() is None:
                raise ValueError(
                    "Cannot close a process while it is still running. "
                    "You should first call join() or terminate()."
                )
            self._popen.close()
            self._popen = None
            _children.discard(self)
        self._closed = True

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        assert isinstance(name, str), "name must be a string"
        self._name = name
        if self is _current_process:
            _logging.name_records(_current_name)

    @property
    def daemon(self) -> bool:
        """Whether the process is ended with its parent instead of being waited for."""
        daemon: bool = self._config.get("daemon", False)
        return daemon

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._popen is None, "process has already started"
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> AuthenticationString:
        authkey: AuthenticationString = self._config["authkey"]
        return authkey

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """The exit code: None before the end, -N if signal N ended the process."""
        self._check_closed()
        if self._popen is None:
            return None
        code: int | None = self._popen.poll()
        return code

    @property
    def ident(self) -> int | None:
        """The process id, or None before the start."""
        self._check_closed()
        if self is _current_process:
            return os.getpid()
        if self._popen is None:
            return None
        pid: int = self._popen.pid
        return pid

    pid = ident

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process ends."""
        self._check_closed()
        if self._popen is None:
            raise ValueError("process not started")
        sentinel: int = self._popen.sentinel
        return sentinel

    def __repr__(self) -> str:
        exitcode = None
        if self is _current_process:
            status = "started"
        elif self._closed:
            status = "closed"
        elif self._parent_pid != os.getpid():
            status = "unknown"
        elif self._popen is None:
            status = "initial"
        else:
            exitcode = self._popen.poll()
            status = "started" if exitcode is None else "stopped"
        parts = [type(self).__name__, f"name={self._name!r}"]
        if self._popen is not None:
            parts.append(f"pid={self._popen.pid}")
        parts += [f"parent={self._parent_pid}", status]
        if exitcode is not None:
            parts.append(f"exitcode={_exitcode_to_name.get(exitcode, exitcode)}")
        if self.daemon:
            parts.append("daemon")
        return f"<{' '.join(parts)}>"

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """The life of the child, from its first line of Python to its exit code."""
        exitcode = 1
        try:
            _become(self, parent_sentinel)
            self._after_fork()
            if _logging.logger is not None:
                _logging.info("child process calling self.run()")
            _let_interrupts_in()
            try:
                self.run()
                exitcode = 0
            finally:
                _exit_function()
                if UTIL in modules:
                    _beside.finish()
        except SystemExit as e:
            exitcode = _exit_status(e.code)
        except BaseException:
            sys.stderr.write(f"Process {self.name}:\n")
            sys.__excepthook__(*sys.exc_info())
        finally:
            if count_threads():  # otherwise there is nobody to wait for
                _join_threads()
            if _logging.logger is not None:
                _logging.info("process exiting with exitcode %d", exitcode)
            _flush_std_streams()
        return exitcode

    _after_fork = staticmethod(forget_duties)


class AuthenticationString(bytes):
    """A secret: bytes that are pickled only for a child, never sent anywhere by accident."""

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        if get_spawning_popen() is None:
            raise TypeError("Pickling an AuthenticationString object is disallowed for security reasons")
        return AuthenticationString, (bytes(self),)


class _MainProcess(BaseProcess):
    """The process that nobody of ours started."""

    def __init__(self) -> None:
        self._identity = ()
        self._name = "MainProcess"
        self._parent_pid = None
        self._popen = None
        self._closed = False
        self._config = {"authkey": AuthenticationString(os.urandom(32)), "semprefix": "/mp"}

    def close(self) -> None:
        pass


class _ParentProcess(BaseProcess):
    """The parent as its child sees it: there is nothing to start, but its end can be awaited.

    `_sentinel` is readable once the parent has ended. Where the launcher gave none (a forked child needs
    none, for a child whose parent has ended gets another one) it is a pidfd, made when first asked for.
    """

    def __init__(self, name: str, pid: int, sentinel: int | None, child_pid: int) -> None:
        self._identity = ()
        self._name = name
        self._pid = pid
        self._parent_pid = None
        self._popen = None
        self._closed = False
        self._config = {}
        self._given_sentinel = sentinel
        self._child_pid = child_pid  # the one whose parent it is; a fork of that may be asking

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        if self._given_sentinel is None and self._child_pid == os.getpid():
            return os.getppid() == self._pid
        return not self._ended(0)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended, or for `timeout` seconds."""
        self._ended(timeout)

    @property
    def ident(self) -> int | None:
        return self._pid

    pid = ident

    @property
    def sentinel(self) -> int:
        return self._sentinel

    @property
    def _sentinel(self) -> int:
        if self._given_sentinel is None:
            self._given_sentinel = self._open_sentinel()
        return self._given_sentinel

    def _open_sentinel(self) -> int:
        try:
            sentinel = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return _readable_descriptor()
        if self._child_pid == os.getpid() and os.getppid() != self._pid:
            os.close(sentinel)  # the parent had ended: this was another process with its old number
            return _readable_descriptor()
        return sentinel

    def _ended(self, timeout: float | None) -> bool:
        try:
            sentinel = self._sentinel
        except OSError:
            return self._ended_without_pidfd(timeout)
        return bool(fastmp.connection.wait([sentinel], timeout))

    def _ended_without_pidfd(self, timeout: float | None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while os.getppid() == self._pid:
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(_PARENT_CHECK_SECONDS)
        return True


def _readable_descriptor() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def _current_name() -> str:
    return _current_process.name


def _name_of_child() -> str | None:
    """The same in a child of ours; None in all other processes."""
    return _current_process.name if _child_pid == getpid() else None


def prepare_for_children() -> None:
    """Before a fork: what all children would have to do is done once."""
    global _named_later
    if not _named_later:
        _named_later = _logging.name_records_later(_name_of_child)


def _become(process: BaseProcess, parent_sentinel: int | None) -> None:
    """In a new child: the module's view of the world is the child's from here on."""
    global _current_process, _parent_process, _parent_sentinel, _child_pid
    global _process_counter, _children, _relatives, _exiting
    _exiting = False
    _process_counter = count(1)
    # The old set is kept: to drop it would touch every sibling, which the program mostly holds anyway.
    _relatives, _children = (_relatives, _children), set()
    _current_process = process
    _parent_process, _parent_sentinel, _child_pid = None, parent_sentinel, getpid()
    _replace_stdin()
    if threading := modules.get("threading"):
        threading.main_thread()._set_native_id()
    if "logging" in modules or not _named_later:
        _logging.name_records(_current_name)


def rehearse(process: BaseProcess) -> None:
    """In a process that waits to be a child: be that one for once, and then nobody's child as before."""
    global _child_pid
    before = _current_process
    try:
        _become(process, None)
        _let_interrupts_in()
        process.run()
        _flush_std_streams()
    finally:
        _become(before, None)
        _child_pid = 0


def _let_interrupts_in() -> None:
    """Ctrl-C before this process ran its program ends it, without a word."""
    try:
        _core.let_interrupts_in()
    except KeyboardInterrupt:
        raise SystemExit(1) from None


class _NoInput(io.RawIOBase):
    """A file with nothing in it. It has a descriptor only if somebody asks for that."""

    name = os.devnull
    _fd: int | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return 0

    def fileno(self) -> int:
        if self._fd is None:
            self._fd = os.open(os.devnull, os.O_RDONLY)
        return self._fd


def _replace_stdin() -> None:
    """Children do not compete for the terminal: their standard input is empty."""
    if sys.stdin is not None:
        sys.stdin = _no_input


def _join_threads() -> None:
    if threading := modules.get("threading"):  # this module lives without, it is slow to import
        threading._shutdown()


def _exit_status(code: object) -> int:
    """The exit code for the argument of sys.exit()."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    sys.stderr.write(f"{code}\n")
    return 1


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105
            stream.flush()
        except (AttributeError, ValueError):
            pass  # there is none, or it is closed


_exiting: bool | None = False


def is_exiting() -> bool:
    """Whether this process has begun to end."""
    return _exiting is not False


def _exit_function() -> None:
    """The end of a process of ours: its finalizers run; daemons are ended, other children waited for."""
    global _exiting
    if _exiting:
        return
    _exiting = True
    if _logging.logger is not None:
        _logging.info("process shutting down")
    if _children or _finalizer_registry:
        _finish()


def _finish() -> None:
    _logging.debug("running all 'atexit' finalizers with priority >= 0")
    run_finalizers(0)
    for child in _own_children():
        if child.daemon:
            _logging.info("calling terminate() for daemon %s", child.name)
            child._popen.terminate()
    for child in _own_children():
        _logging.info("calling join() for process %s", child.name)
        child.join()
    _logging.debug("running the remaining 'atexit' finalizers")
    run_finalizers()


def _own_children() -> list[BaseProcess]:
    """Those that this process started: in one that the user forked, others' may be in the list."""
    return [child for child in active_children() if child._parent_pid == os.getpid()]


_exitcode_to_name = {
    -number: f"-{name}"
    for name, number in vars(_signal).items()
    if name.startswith("SIG") and not name.startswith("SIG_")
}
_main_process = _MainProcess()  # kept: a child would touch a dozen pages to let go of it
_current_process: BaseProcess = _main_process
_parent_process: BaseProcess | None = None  # made when it is asked for
_parent_sentinel: int | None = None
_child_pid = 0
_named_later = False  # whether the log records of forked children carry their names once there are any
_no_input = io.TextIOWrapper(io.BufferedReader(_NoInput()), encoding="utf-8")  # made before any child
_process_counter = count(1)
_children: set[BaseProcess] = set()
_relatives: tuple[object, ...] = ()  # children of the processes before this one
_dangling: WeakSet[BaseProcess] = WeakSet()
_core.set_current_process(current_process)
atexit.register(_exit_function)
