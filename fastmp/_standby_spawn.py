"""Processes of the start method `spawn` that are started ahead (_standby.py).

They are interpreters that have attached to the arena and imported what the parent uses and, where there is
one, the main module. What can be told to such a process, is: arguments, standard streams, umask, blocked
signals, and, while it has no main module, environment, working directory, argv and path. What cannot be told,
or what its main module has seen already, is its circumstances. It ends with its parent, too, however that
ended.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import socket
import stat
import sys
import time
from importlib import import_module

from . import _core, _newborn, _standby, process, reduction, spawn
from ._at_once import locked
from ._launch import spawn as launcher
from ._launch.fork import live
from .connection import wait as wait_for

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

__all__ = ["main", "set_standby"]

READY = b"."
LONGEST_ORDER = 128 << 10
ENDING = 5.0  # seconds that one gets to notice that it is dismissed
STREAMS = (0, 1, 2)
READ_AT_START = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"MALLOC_", b"GLIBC_")  # variables of an interpreter
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")
INHERITED = ("Uid", "Gid", "Groups", "SigIgn", "Cap", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed")
LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})

_PACKAGE = __name__.rpartition(".")[0]


# ---- the parent's side ------------------------------------------------------------------------------


class _Ahead(_standby.Ahead):
    """An interpreter that waits."""

    @classmethod
    def make(cls, circumstances: tuple[Any, ...]) -> _Ahead:
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self = cls(_core.expect(), line, circumstances)
        try:
            with theirs, spawn.in_memory(_settings()) as settings:
                passed = [theirs.fileno(), _core.arena_fd(), settings.fileno()]
                code = f"from {__name__} import main; main{(os.getpid(), *passed)}"
                if self.child.passed >= 0:
                    passed.append(self.child.passed)
                spawn.execute(code, passed, self.child.born)
        except BaseException:
            line.close()
            raise
        return self

    def tell(self, ticket: tuple[int, ...], numbers: Sequence[int]) -> bool:
        fds = [*(fd for fd in STREAMS if _kind(fd) is not None), *numbers]
        umask = int(_status()["Umask"], 8)
        order = pickle.dumps((ticket, self.child.owner, fds, _blocked(), umask, dict(os.environb)))
        if len(order) > LONGEST_ORDER or len(fds) > reduction.MOST_FDS:
            return False
        with self.line:
            socket.send_fds(self.line, [order], fds)
        return True


class _Standby(_standby.Standby):
    def __init__(self, launcher: Any) -> None:
        super().__init__(launcher)
        self._dismissed: list[_standby.Ahead] = []  # not yet reaped

    @locked("_lock")
    def _change(self, count: int) -> None:
        super()._change(count)
        if not count:
            self._await_dismissed()

    def _circumstances(self) -> tuple[Any, ...]:
        return _circumstances()

    def _fill(self) -> None:
        self._dismissed = [one for one in self._dismissed if one.child.poll() is None]
        circumstances = _circumstances() if self._count else ()
        while len(self._waiting) < self._count:
            self._waiting.append(_Ahead.make(circumstances))

    def _await_ready(self) -> None:
        for ends in self._list_ends():
            with contextlib.suppress(ValueError):  # another thread has used it, or dismissed it
                wait_for(ends)  # what it says stays in the socket: others may ask, too

    @locked("_lock")
    def _list_ends(self) -> list[tuple[socket.socket, int]]:
        return [(one.line, one.child.sentinel) for one in self._waiting]

    def _dismiss(self, one: _standby.Ahead) -> None:
        super()._dismiss(one)
        self._dismissed.append(one)

    def _await_dismissed(self) -> None:
        until = time.monotonic() + ENDING
        for one in self._dismissed:
            if one.child.wait(max(0.0, until - time.monotonic())) is None:
                one.child.kill(signal.SIGKILL)
                one.child.wait()
        self._dismissed.clear()


def set_standby(count: int, wait: bool) -> None:
    """Keep so many started ahead."""
    _spawned.set(count, wait)


def _blocked() -> list[int]:
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]


def _settings() -> tuple[Any, ...]:
    used = [name for name in list(sys.modules) if name.startswith(f"{_PACKAGE}.")]
    return used, spawn.get_shared_preparation(), _main_state(), dict(os.environb)


def _status() -> dict[str, str]:
    with open("/proc/thread-self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def _circumstances() -> tuple[Any, ...]:
    """What a new interpreter would find, and one that is started already cannot be told."""
    shared = spawn.get_shared_preparation()
    environment = dict(os.environb)
    status = _status()
    umask = status["Umask"]
    main = _main_state()
    if main is None:
        shared = {"dir": shared["dir"] is None}
        environment = {name: environment[name] for name in environment if name.startswith(READ_AT_START)}
        umask = ""
    return (
        spawn.command(""),
        [status[name] for name in status if name.startswith(INHERITED)],
        [_kind(fd) for fd in STREAMS],
        [resource.getrlimit(number) for number in LIMITS],
        (os.getpgrp(), os.getsid(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)),
        [_identity(f"/proc/self/ns/{name}") for name in NAMESPACES],
        _identity("/"),
        shared,
        environment,
        umask,
        main,
    )


def _main_state() -> tuple[int, ...] | None:
    """Which state of the file of the main module is imported; None if there is no module to import."""
    found = spawn.get_main_module()
    if not found or not spawn.main_is_found():
        return None
    path = found.get("init_main_from_path") or getattr(sys.modules["__main__"], "__file__", None)
    try:
        state = os.stat(path or "")
    except OSError:
        return (0, 0, 0)
    return (state.st_ino, state.st_size, state.st_mtime_ns)


def _kind(fd: int) -> tuple[Any, ...] | None:
    """What an interpreter looks at when it opens a standard stream; None if that is closed."""
    try:
        state = os.fstat(fd)
    except OSError:
        return None
    return stat.S_IFMT(state.st_mode), state.st_blksize, os.isatty(fd)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


_spawned = _Standby(launcher)
os.register_at_fork(after_in_child=_spawned._after_fork_in_child)


# ---- the process that waits -------------------------------------------------------------------------


def main(parent: int, line_fd: int, arena_fd: int, settings_fd: int) -> NoReturn:
    """Get ready, wait, be a child."""
    for fd in (line_fd, arena_fd, settings_fd):
        os.set_inheritable(fd, False)
    _core.attach(arena_fd, 0)
    with open(settings_fd, "rb") as file:
        used, data, main_state, old_environment = pickle.load(file)
    for name in used:
        with contextlib.suppress(ImportError):
            import_module(name)
    if main_state is not None:
        _prepare(data)
    with socket.socket(fileno=line_fd) as line:
        message, fds = _await_order(line, parent)
    if not message:
        _quit()
    ticket, owner, numbers, blocked, umask, environment = pickle.loads(message)
    _take_over(numbers, fds)
    if main_state is None:
        os.umask(umask)
        _set_environment(old_environment, environment)
    _newborn.hold_interrupts(blocked)
    _core.become(owner)
    live(_newborn._main(_core.Block.attach(ticket), prepared=main_state is not None)._bootstrap)


def _prepare(data: dict[str, Any]) -> None:
    """Import the main module. If it can't be imported, a new process is to say so and not this one."""
    this = process.current_process()
    this._inheriting = True  # type: ignore[attr-defined]
    try:
        _newborn.prepare(data)
    except BaseException:
        _quit()
    del this._inheriting  # type: ignore[attr-defined]
    process._flush_std_streams()


def _await_order(line: socket.socket, parent: int) -> tuple[bytes, list[int]]:
    with contextlib.suppress(OSError):
        line.send(READY)
    ends: list[Any] = [line]
    with contextlib.suppress(OSError):  # there are no pidfds
        ends.append(process._ParentProcess("", parent, None, os.getpid())._sentinel)
    wait_for(ends)
    try:
        return reduction.receive(line, LONGEST_ORDER, reduction.MOST_FDS)
    except ConnectionResetError:  # that nobody read what we wrote is told first
        return reduction.receive(line, LONGEST_ORDER, reduction.MOST_FDS)


def _take_over(numbers: Sequence[int], fds: Sequence[int]) -> None:
    """The descriptors that came with the order, which have these numbers in the parent."""
    for number, fd in zip(numbers, fds, strict=True):
        if number in STREAMS:
            os.dup2(fd, number)
            os.close(fd)
        else:
            launcher.received[number] = fd


def _set_environment(old: Mapping[bytes, bytes], new: Mapping[bytes, bytes]) -> None:
    """What the parent has changed. The interpreter may have set variables of its own."""
    for name in old.keys() - new.keys():
        os.environb.pop(name, None)
    os.environb.update({name: new[name] for name in new if old.get(name) != new[name]})
    time.tzset()


def _quit() -> NoReturn:
    """Go without a trace. What the main module wants to do at exit is for the children."""
    _core.leave()
    os._exit(0)
