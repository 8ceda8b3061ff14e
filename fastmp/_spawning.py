"""Which process is being spawned by this thread.

Objects that live in shared memory or own descriptors may be pickled only as the arguments of a process
that is being spawned. While its arguments are pickled, the launcher says so here, and the objects ask.
A leaf: imports nothing of fastmp.
"""

from __future__ import annotations

from _thread import _local  # threading.py is slow to import

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["assert_spawning", "get_spawning_popen", "set_spawning_popen"]

_tls = _local()


def get_spawning_popen() -> Any:
    """The launcher whose process this thread is spawning, or None."""
    return getattr(_tls, "spawning_popen", None)


def set_spawning_popen(popen: Any) -> None:
    """Say which launcher pickles for its process now; None when it is done."""
    _tls.spawning_popen = popen


def assert_spawning(obj: object) -> None:
    """RuntimeError unless this thread is spawning a process."""
    if get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(obj).__name__} objects should only be shared between processes through inheritance"
        )
