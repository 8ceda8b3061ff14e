"""Processes of the start method `spawn` that are started ahead, so that a start costs a message.

    parent                                          process started ahead
    execute, with one end of a socket pair          attach to the arena, import what the parent uses and,
                                                    where there is one, the main module; say so, wait
    start: take one, pickle for it as for any,
    send where the block is, with descriptors  -->  be that child: _newborn._main

It is a child like any other of its method: what it is to be is decided by the parent when it starts a
process, and it is used only if a new interpreter would find the same. What can be told to it, is: arguments,
standard streams, umask, blocked signals, and, while it has no main module, environment, working directory,
argv and path. What cannot be told, or what its main module has seen already, makes up its circumstances
(_circumstances). If they have changed it is dismissed, and others are made.

Nobody but this module knows of a process that waits. It ends when its socket does, or its parent, however
that ended; a fork of the parent has closed its copies. Replacements are made by the start that leaves no more
than half of them: a burst is not slowed down by interpreters that begin.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import resource
import signal
import socket
import stat
import sys
import threading
import time
from importlib import import_module

from . import _core, _newborn, process, reduction, spawn
from ._finalize import Finalize
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
MOST_FDS = 253  # in one packet
ENDING = 5.0  # seconds that one gets to notice that it is dismissed
STREAMS = (0, 1, 2)
READ_AT_START = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"MALLOC_", b"GLIBC_")  # variables of an interpreter
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")
INHERITED = ("Uid", "Gid", "Groups", "SigIgn", "Cap", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed")
LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})

_PACKAGE = __name__.rpartition(".")[0]


# ---- the parent's side ------------------------------------------------------------------------------


class Ahead:
    """A process that waits to be a child."""

    def __init__(self, circumstances: tuple[Any, ...]) -> None:
        self.circumstances = circumstances
        self.child = _core.expect()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, spawn.in_memory(_settings()) as settings:
                passed = [theirs.fileno(), _core.arena_fd(), settings.fileno()]
                code = f"from {__name__} import main; main{(os.getpid(), *passed)}"
                if self.child.passed >= 0:
                    passed.append(self.child.passed)
                spawn.execute(code, passed, self.child.born)
        except BaseException:
            self._sock.close()
            raise

    def lives(self) -> bool:
        return self.child.poll() is None

    def await_ready(self) -> None:
        """Until it waits, or has ended. What it says stays in the socket: others may ask, too."""
        wait_for([self._sock, self.child.sentinel])

    def tell(self, ticket: tuple[int, ...], numbers: Sequence[int]) -> bool:
        """Tell it what to be; False if that is too much for a packet. ConnectionError if it has just died."""
        fds = [*(fd for fd in STREAMS if _kind(fd) is not None), *numbers]
        umask = int(_status()["Umask"], 8)
        order = pickle.dumps((ticket, self.child.owner, fds, _blocked(), umask, dict(os.environb)))
        if len(order) > LONGEST_ORDER or len(fds) > MOST_FDS:
            return False
        with self._sock:
            socket.send_fds(self._sock, [order], fds)
        return True

    def dismiss(self) -> None:
        """It is to end."""
        self._sock.close()


class Standby:
    """The processes that this one has started ahead."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._count = 0
        self._waiting: collections.deque[Ahead] = collections.deque()  # the oldest first
        self._dismissed: list[Ahead] = []  # not yet reaped
        self._at_exit: Finalize | None = None

    def set(self, count: int, wait: bool) -> None:
        with self._lock:
            self._count = count
            launcher.standby = self if count else None
            if count and self._at_exit is None:
                self._at_exit = Finalize(None, self._stop, exitpriority=0)
            while len(self._waiting) > count:
                self._dismiss(self._waiting.pop())
            if not count:
                self._await_dismissed()
            self._fill(_circumstances() if count else ())
            waiting = list(self._waiting)
        for one in waiting if wait else ():
            with contextlib.suppress(ValueError):  # another thread has used it, or dismissed it
                one.await_ready()

    def take(self) -> Ahead | None:
        """One that is what a new child would be; None if there is none."""
        with self._lock:
            now = _circumstances()
            while self._waiting:
                one = self._waiting.popleft()
                if one.circumstances == now and one.lives():
                    return one
                self._dismiss(one)
        return None

    def put_back(self, one: Ahead) -> None:
        """It was not needed after all."""
        with self._lock:
            self._waiting.appendleft(one)

    def dismiss(self, one: Ahead) -> None:
        """It is of no use any more."""
        with self._lock:
            self._dismiss(one)

    def refill(self) -> None:
        """After a start: make new ones, if no more than half of them are left."""
        with self._lock, contextlib.suppress(OSError):  # the child has started; this may wait
            self._dismissed = [one for one in self._dismissed if one.lives()]
            if len(self._waiting) <= self._count // 2:
                self._fill(_circumstances())

    def _fill(self, circumstances: tuple[Any, ...]) -> None:
        while len(self._waiting) < self._count:
            self._waiting.append(Ahead(circumstances))

    def _dismiss(self, one: Ahead) -> None:
        one.dismiss()
        self._dismissed.append(one)

    def _await_dismissed(self) -> None:
        until = time.monotonic() + ENDING
        for one in self._dismissed:
            if one.child.wait(max(0.0, until - time.monotonic())) is None:
                one.child.kill(signal.SIGKILL)
                one.child.wait()
        self._dismissed.clear()

    def _stop(self) -> None:
        self.set(0, False)

    def _after_fork_in_child(self) -> None:
        for one in (*self._waiting, *self._dismissed):
            one.dismiss()
        launcher.standby = None
        self.__init__()  # type: ignore[misc]


def set_standby(count: int, wait: bool) -> None:
    """Keep so many started ahead."""
    _standby.set(count, wait)


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


_standby = Standby()
os.register_at_fork(after_in_child=_standby._after_fork_in_child)


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
    _forget_interrupts()
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
        return reduction.receive(line, LONGEST_ORDER, MOST_FDS)
    except ConnectionResetError:  # that nobody read what we wrote is told first
        return reduction.receive(line, LONGEST_ORDER, MOST_FDS)


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


def _forget_interrupts() -> None:
    """Those that came while it waited were not for this child."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGINT, handler)


def _quit() -> NoReturn:
    """Go without a trace. What the main module wants to do at exit is for the children."""
    _core.leave()
    os._exit(0)
