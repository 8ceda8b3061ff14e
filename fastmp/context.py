"""Contexts: the whole interface of the package as methods, one context for each start method.

This is the top of the tree: what it makes lives in submodules, and each is loaded at the first use of
something in it. `fastmp.queues` is that use: the package loads its submodules as they are asked for
(see `__init__`), so `import fastmp` stays quick and nothing here needs an import of its own.
"""

from __future__ import annotations

import os
import sys
from _operator import index  # operator.py is slow to import

import fastmp

from . import _core, process
from ._core import AuthenticationError, BufferTooShort, ProcessError, TimeoutError
from ._launch import fork as _fork
from ._spawning import assert_spawning, get_spawning_popen, set_spawning_popen

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType
    from typing import Any

    from .connection import Connection
    from .managers import SyncManager
    from .pool import Pool as PoolType
    from .queues import JoinableQueue as JoinableQueueType
    from .queues import Queue as QueueType
    from .queues import SimpleQueue as SimpleQueueType
    from .queues import ZeroCopy

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]


class BaseContext:
    """What every context offers. Objects know the context that made them only where it matters: which
    kind of process a pool or a manager starts. Locks, queues and the like work with all of them."""

    ProcessError = ProcessError
    BufferTooShort = BufferTooShort
    TimeoutError = TimeoutError
    AuthenticationError = AuthenticationError

    current_process = staticmethod(process.current_process)
    parent_process = staticmethod(process.parent_process)
    active_children = staticmethod(process.active_children)

    Process: type[process.BaseProcess]
    _name: str

    def cpu_count(self) -> int:
        """The number of processors that this process may use."""
        return _core.cpu_count()

    def Manager(self) -> SyncManager:
        """A running manager: a server process whose objects others use through proxies."""
        manager = fastmp.managers.SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> tuple[Connection, Connection]:
        """Two connected ends; one-way, the first receives and the second sends."""
        return fastmp.connection.Pipe(duplex)

    def Lock(self, *, robust: bool = False) -> _core.Lock:
        """A lock, which any process may release. A robust one is released by its holder only; if that is
        killed the next gets it, with a RuntimeWarning, and `recovered` is true until it is released."""
        return fastmp.synchronize.Lock(robust=robust, ctx=self.get_context())

    def RLock(self) -> _core.RLock:
        """A lock that its owner may take more than once."""
        return fastmp.synchronize.RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> _core.Condition:
        """A condition variable."""
        return fastmp.synchronize.Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> _core.Semaphore:
        """A semaphore."""
        return fastmp.synchronize.Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> _core.BoundedSemaphore:
        """A semaphore that cannot be released more often than it was taken."""
        return fastmp.synchronize.BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> _core.Event:
        """An event."""
        return fastmp.synchronize.Event(ctx=self.get_context())

    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> _core.Barrier:
        """A barrier."""
        return fastmp.synchronize.Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0, *, zero_copy: ZeroCopy = False) -> QueueType[Any]:
        """A queue; without `maxsize`, or one less than 1, it has no bound. With `zero_copy` received arrays
        stay in shared memory, read-only, or writable if it is "writable"."""
        return fastmp.queues.Queue(maxsize, ctx=self.get_context(), zero_copy=zero_copy)

    def JoinableQueue(self, maxsize: int = 0, *, zero_copy: ZeroCopy = False) -> JoinableQueueType[Any]:
        """A queue that knows how many of its items are still being worked on."""
        return fastmp.queues.JoinableQueue(maxsize, ctx=self.get_context(), zero_copy=zero_copy)

    def SimpleQueue(self, *, zero_copy: ZeroCopy = False) -> SimpleQueueType[Any]:
        """A queue with few methods."""
        return fastmp.queues.SimpleQueue(ctx=self.get_context(), zero_copy=zero_copy)

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> PoolType:
        """A pool of worker processes, by default as many as this process may use processors. Each begins with
        `initializer(*initargs)`, and is replaced after `maxtasksperchild` tasks if that is given."""
        return fastmp.pool.Pool(
            processes, initializer, initargs, maxtasksperchild, context=self.get_context()
        )

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A ctypes object in shared memory."""
        return fastmp.sharedctypes.RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """A ctypes array in shared memory."""
        return fastmp.sharedctypes.RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A ctypes object in shared memory, with a lock."""
        return fastmp.sharedctypes.Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """A ctypes array in shared memory, with a lock."""
        return fastmp.sharedctypes.Array(
            typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context()
        )

    def freeze_support(self) -> None:
        """In a frozen program that was run to become a child: become that child."""
        if getattr(sys, "frozen", False):
            fastmp.spawn.freeze_support()

    def get_logger(self) -> logging.Logger:
        """The package's logger, made at the first call."""
        return fastmp.util.get_logger()

    def log_to_stderr(self, level: int | str | None = None) -> logging.Logger:
        """Let the package's logger write to standard error."""
        return fastmp.util.log_to_stderr(level)

    def allow_connection_pickling(self) -> None:
        """Make connections and sockets picklable: load what knows how."""
        fastmp.connection  # noqa: B018

    def set_executable(self, executable: str | bytes | os.PathLike[str]) -> None:
        """The interpreter that runs processes which are not forked."""
        fastmp.spawn.set_executable(executable)

    def set_forkserver_preload(self, module_names: Sequence[str], *, on_error: str = "ignore") -> None:
        """Modules that the fork server imports when it starts. If one can't be imported: `ignore` it, `warn`,
        or `fail` to start."""
        fastmp.forkserver.set_forkserver_preload(module_names, on_error=on_error)

    def set_standby(self, n: int, *, wait: bool = False) -> None:
        """Keep `n` processes of this start method started ahead, so that a start costs a message; 0 ends
        them. With `wait`, return when they are ready. ValueError for `fork`."""
        n = index(n)
        if n < 0:
            raise ValueError(f"the number of processes to start ahead cannot be negative: {n}")
        self.get_context()._set_standby(n, wait)

    def _set_standby(self, n: int, wait: bool) -> None:
        raise ValueError(
            f"no process can be started ahead with the start method {self.get_start_method()!r}: "
            "a forked process is a copy of its parent as it is at the start"
        )

    def get_context(self, method: str | None = None) -> BaseContext:
        """The context of a start method; without one, this context."""
        if method is None:
            return self
        try:
            return _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """The name of the context's start method."""
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Only the default context can change its start method."""
        raise ValueError("cannot set start method of concrete context")

    @property
    def reducer(self) -> ModuleType | type:
        """What pickles objects for other processes."""
        return _reducer if _reducer is not None else fastmp.reduction

    @reducer.setter
    def reducer(self, reduction: ModuleType | type) -> None:
        global _reducer
        _reducer = reduction


class Process(process.BaseProcess):
    """A process of the start method that is set when it is started."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        return _default_context.get_context().Process._Popen(process_obj)


class ForkProcess(process.BaseProcess):
    """A forked process."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        return _fork.Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        if _default_context._actual_context is not _fork_context:
            _default_context._actual_context = _fork_context
        process.forget_duties()


class SpawnProcess(process.BaseProcess):
    """A new interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        return fastmp.popen_spawn_posix.Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _force_start_method("spawn")


class ForkServerProcess(process.BaseProcess):
    """A copy of the fork server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        return fastmp.popen_forkserver.Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _force_start_method("forkserver")
        process.forget_duties()


class ForkContext(BaseContext):
    """Children are copies of their parent."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Children are new interpreters."""

    _name = "spawn"
    Process = SpawnProcess

    def _set_standby(self, n: int, wait: bool) -> None:
        fastmp._standby_spawn.set_standby(n, wait)


class ForkServerContext(BaseContext):
    """Children are copies of a small server."""

    _name = "forkserver"
    Process = ForkServerProcess

    def _set_standby(self, n: int, wait: bool) -> None:
        fastmp._standby_forkserver.set_standby(n, wait)


class DefaultContext(BaseContext):
    """The context behind the functions of the package: that of the start method which was set, or of
    the default one from the first use on."""

    Process = Process

    def __init__(self, context: BaseContext, actual_context: BaseContext | None = None) -> None:
        self._default_context = context
        self._actual_context = actual_context

    def get_context(self, method: str | None = None) -> BaseContext:
        """The context of a start method; without one, of the current start method."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Set the start method, once for a program, or again with `force`; None forgets it."""
        if self._actual_context is not None and not force:
            why = ""
            if getattr(process.current_process(), "_inheriting", False):
                why = " by the parent; the main module is to set it under `if __name__ == '__main__':`"
            raise RuntimeError(f"context has already been set{why}")
        self._actual_context = None if method is None and force else self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """The name of the start method; None if none was set or used yet and `allow_none`."""
        if self._actual_context is None and allow_none:
            return None
        return self.get_context()._name

    def get_all_start_methods(self) -> list[str]:
        """The start methods there are, the default one first."""
        default = self._default_context._name
        return [default, *(name for name in _concrete_contexts if name != default)]


_reducer: ModuleType | type | None = None
_fork_context = ForkContext()
_concrete_contexts: dict[str, BaseContext] = {
    "fork": _fork_context,
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context = DefaultContext(_concrete_contexts["fork" if sys.version_info < (3, 14) else "forkserver"])


def _force_start_method(method: str) -> None:
    _default_context._actual_context = _concrete_contexts[method]
