"""Names that libraries import: finalizers, after-fork callbacks, the log, descriptors, a temporary folder.

Most live in the leaves below; what needs a slow import (logging, tempfile) lives here.
"""

from __future__ import annotations

import _posixsubprocess
import _signal  # type: ignore[import-not-found]  # in Python, its functions may be interrupted
import gc
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from subprocess import _args_from_interpreter_flags as _args_from_interpreter_flags  # type: ignore[attr-defined]
from typing import Any

from . import _finalize, _logging, process
from ._at_once import at_once
from ._finalize import Finalize, register_after_fork
from ._finalize import _afterfork_registry as _afterfork_registry
from ._finalize import _finalizer_registry as _finalizer_registry
from ._finalize import run_finalizers as _run_finalizers
from ._logging import (
    DEBUG,
    INFO,
    NOTSET,
    SUBDEBUG,
    SUBWARNING,
    WARNING,
    debug,
    info,
    sub_debug,
    sub_warning,
    warn,
)
from .process import _exit_function as _exit_function
from .process import _flush_std_streams as _flush_std_streams
from .process import is_exiting

__all__ = [
    "DEBUG",
    "INFO",
    "NOTSET",
    "SUBDEBUG",
    "SUBWARNING",
    "WARNING",
    "Finalize",
    "ForkAwareLocal",
    "ForkAwareThreadLock",
    "close_all_fds_except",
    "debug",
    "get_logger",
    "get_temp_dir",
    "info",
    "is_exiting",
    "log_to_stderr",
    "register_after_fork",
    "sub_debug",
    "sub_warning",
    "warn",
]

LOGGER_NAME = "multiprocessing"
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

_close_stdin = process._replace_stdin

_STATE_OF_LOG = {"_logger": "logger", "_log_to_stderr": "log_to_stderr"}


def __getattr__(name: str) -> Any:
    """The state of the log lives in _logging."""
    if name in _STATE_OF_LOG:
        return getattr(_logging, _STATE_OF_LOG[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---- the log --------------------------------------------------------------------------------------


def get_logger() -> logging.Logger:
    """The package's logger, made at the first call."""
    if _logging.logger is None:
        logging.addLevelName(SUBDEBUG, "SUBDEBUG")
        logging.addLevelName(SUBWARNING, "SUBWARNING")
        logger = logging.getLogger(LOGGER_NAME)
        logger.propagate = False
        _logging.logger = logger
    return _logging.logger


def log_to_stderr(level: int | str | None = None) -> logging.Logger:
    """Let the package's logger write to standard error."""
    logger = get_logger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(DEFAULT_LOGGING_FORMAT))
    logger.addHandler(handler)
    if level:
        logger.setLevel(level)
    _logging.log_to_stderr = True
    return logger


# ---- after a fork ----------------------------------------------------------------------------------


def _run_after_forkers() -> None:
    _finalize.run_after_forkers(info)


class ForkAwareThreadLock:
    """A lock between threads that is free in a new child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        register_after_fork(self, ForkAwareThreadLock._at_fork_reinit)

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


class ForkAwareLocal(threading.local):
    """Values of a thread that are forgotten in a new child."""

    def __init__(self) -> None:
        register_after_fork(self, lambda obj: obj.__dict__.clear())

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


# ---- sockets and files -----------------------------------------------------------------------------

abstract_sockets_supported = sys.platform == "linux"


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Whether the address of a Unix socket is one without a file."""
    if not address:
        return False
    if isinstance(address, bytes):
        return address[0] == 0
    if isinstance(address, str):
        return address[0] == "\0"
    raise TypeError(f"address type of {address!r} unrecognized")


def get_temp_dir() -> str:
    """A folder for files of this process and its children, removed when the process ends."""
    config = process.current_process()._config
    folder: str | None = config.get("tempdir")
    if folder is None:
        folder = tempfile.mkdtemp(prefix="pymp-")
        info("created temp directory %s", folder)
        # Late, for other finalizers may still use the folder.
        Finalize(None, _remove_temp_dir, args=(folder,), exitpriority=-100)
        config["tempdir"] = folder
    return folder


def _remove_temp_dir(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    process.current_process()._config.pop("tempdir", None)


# ---- descriptors -----------------------------------------------------------------------------------


try:
    MAXFD = os.sysconf("SC_OPEN_MAX")
except ValueError:
    MAXFD = 256


def close_fds(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Close every descriptor but these."""
    first = 0
    for fd in [*sorted(fds), MAXFD]:
        if first < fd:  # an empty range that starts at 0 would close everything
            os.closerange(first, fd)
        first = fd + 1


def spawnv_passfds(path: str | bytes, args: Sequence[str | bytes], passfds: Iterable[int]) -> int:
    """Run a program that inherits these descriptors and no others; returns its pid."""
    pids: list[int] = []
    _spawn(path, args, passfds, pids.append, ())
    return pids[0]


def _spawn(
    path: str | bytes,
    args: Sequence[str | bytes],
    passfds: Iterable[int],
    born: Callable[[int], object],
    blocked: Iterable[int],
) -> None:
    """The same, with these signals blocked; but the pid goes to a function, in C, before a signal handler
    can raise."""
    pipe: list[int] = []
    closing = map(os.close, pipe)
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    try:
        at_once(pipe.extend, os.pipe)
        arguments = (
            [os.fsencode(arg) for arg in args],
            [os.fsencode(path)],
            True,  # close the other descriptors
            tuple(sorted(map(int, passfds))),
            None,  # working directory
            None,  # environment
            *(-1, -1, -1, -1, -1, -1),  # no redirection of standard streams
            *pipe,
            False,  # leave signals as they are
            False,  # no new session
            -1,  # no new process group
            *(None, None, None, -1, None),  # no other groups, user, umask; nothing to call before
            *_VFORK,
        )
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, blocked)
            at_once(born, _fork_exec, *arguments)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    finally:
        list(closing)


_fork_exec: Callable[..., int] = _posixsubprocess.fork_exec
_VFORK: tuple[bool, ...] = () if sys.version_info >= (3, 14) else (True,)


# ---- tests -----------------------------------------------------------------------------------------


def _cleanup_tests() -> None:
    """Give back all that is kept from one use to the next."""
    process._cleanup()
    server = sys.modules.get("fastmp.forkserver")
    if server is not None:
        server._forkserver._stop()
    tracker = sys.modules.get("fastmp.resource_tracker")
    if tracker is not None:
        tracker._resource_tracker._stop()
    _run_finalizers()
    gc.collect()
