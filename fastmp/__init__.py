"""fastmp: multiprocessing over one shared-memory arena.

The layout, each layer importing only those before it:

    _core                                   the C extension: arena, locks, queues, connections, fork
    _spawning  _finalize  _logging          leaves, they import nothing of ours
    _definitions                            another: functions and classes that came by value
    _echo                                   another: what children print, in a notebook
    reduction  _by_value                    pickling for other processes
    synchronize  connection  heap  sharedctypes
    process  queues (_classic_queue)
    util  resource_tracker (_tracker)  spawn  names that libraries import
    resource_sharer                         descriptors for processes that run already
    shared_memory                           named segments, which other programs may use
    _multiprocessing                        semaphores of the system, for libraries
    dummy/                                  the same interface with threads
    _launch/  (popen_fork)                  one module for each start method
    _fork_server                            the server of the start method forkserver
    _standby                                processes started ahead
    _standby_spawn  _standby_forkserver
    pool (_pool/)  managers (_managers/)
    context                                 all of the interface as methods
    this module                             those of the default context; _install
    __main__                                python -m fastmp

Submodules are loaded when they are first asked for, as attributes of this package. That is the only
place where something is imported late.
"""

import sys

from . import context
from .process import active_children, current_process, parent_process

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from . import _by_value as _by_value
    from . import _definitions as _definitions
    from . import _echo as _echo
    from . import _rerun as _rerun
    from . import _standby_forkserver as _standby_forkserver
    from . import _standby_spawn as _standby_spawn
    from . import _tracker as _tracker
    from . import connection as connection
    from . import dummy as dummy
    from . import forkserver as forkserver
    from . import heap as heap
    from . import managers as managers
    from . import pool as pool
    from . import popen_fork as popen_fork
    from . import popen_forkserver as popen_forkserver
    from . import popen_spawn_posix as popen_spawn_posix
    from . import popen_spawn_win32 as popen_spawn_win32
    from . import process as process
    from . import queues as queues
    from . import reduction as reduction
    from . import resource_sharer as resource_sharer
    from . import resource_tracker as resource_tracker
    from . import shared_memory as shared_memory
    from . import sharedctypes as sharedctypes
    from . import spawn as spawn
    from . import synchronize as synchronize
    from . import util as util
    from ._install import install as install
    from ._install import load_ipython_extension as load_ipython_extension
    from ._install import uninstall as uninstall
    from ._install import unload_ipython_extension as unload_ipython_extension
del TYPE_CHECKING  # all public names of this package are in __all__

__version__ = "0.1.0"

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

SUBDEBUG = 5
SUBWARNING = 25

_SUBMODULES = frozenset(
    {
        "_by_value",
        "_definitions",
        "_echo",
        "_install",
        "_classic_queue",
        "_multiprocessing",
        "_rerun",
        "_standby_forkserver",
        "_standby_spawn",
        "_tracker",
        "connection",
        "dummy",
        "forkserver",
        "heap",
        "managers",
        "pool",
        "popen_fork",
        "popen_forkserver",
        "popen_spawn_posix",
        "popen_spawn_win32",
        "queues",
        "reduction",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "sharedctypes",
        "spawn",
        "synchronize",
        "util",
    }
)

_INSTALLERS = frozenset({"install", "load_ipython_extension", "uninstall", "unload_ipython_extension"})

sys.modules["__mp_main__"] = sys.modules["__main__"]  # what that is called by children that made it anew

_default = context._default_context

Array = _default.Array
AuthenticationError = _default.AuthenticationError
Barrier = _default.Barrier
BoundedSemaphore = _default.BoundedSemaphore
BufferTooShort = _default.BufferTooShort
Condition = _default.Condition
Event = _default.Event
JoinableQueue = _default.JoinableQueue
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
Process = _default.Process
ProcessError = _default.ProcessError
Queue = _default.Queue
RLock = _default.RLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
SimpleQueue = _default.SimpleQueue
TimeoutError = _default.TimeoutError
Value = _default.Value
allow_connection_pickling = _default.allow_connection_pickling
cpu_count = _default.cpu_count
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method


def __getattr__(name: str) -> "ModuleType | type | Callable[..., None]":
    if name in _SUBMODULES:
        full_name = f"{__name__}.{name}"
        __import__(full_name)  # importlib.import_module does no more, and is slow to import
        return sys.modules[full_name]
    if name in _INSTALLERS:
        function: Callable[..., None] = getattr(__getattr__("_install"), name)
        globals()[name] = function
        return function
    if name == "reducer":
        return _default.reducer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES, *_INSTALLERS})
