"""Beside the standard library: what its multiprocessing is to know of ours, where a program has loaded it.

Its objects may be arguments of our processes, its executor may use our contexts. So its modules are told
when a process is spawned, and a child of ours is to them what a child of theirs is. None of them is ever
loaded by us; and under install() there is none, for their names stand for our own modules.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["after_fork", "finish", "get_spawning", "take_over"]

_STANDARD = "multiprocessing"
UTIL = f"{_STANDARD}.util"  # without this module there is nothing to be done or dropped in a child

_modules = sys.modules


def _loaded(name: str) -> Any:
    """A module of the standard library's package, or None."""
    module = _modules.get(f"{_STANDARD}.{name}")
    return module if module is not None and module.__name__.startswith(_STANDARD) else None


def get_spawning() -> Any:
    """Where its objects look for the launcher (`spawning_popen`) that a thread pickles for; None if it is not
    loaded."""
    return getattr(_loaded("context"), "_tls", None)


def after_fork() -> None:
    """In a forked child: what was registered there is done or dropped, as with the standard library's."""
    util, process = _loaded("util"), _loaded("process")
    if util is None or process is None:
        return
    process._children = set()
    util._finalizer_registry.clear()
    util._run_after_forkers()


def take_over() -> None:
    """In a child that has unpickled its arguments: the standard library's processes know each other by our
    key."""
    process = _loaded("process")
    if process is not None:
        ours = _modules["fastmp.process"].current_process()
        process.current_process()._config["authkey"] = process.AuthenticationString(ours.authkey)


def finish() -> None:
    """At the end of a child: the standard library's queues are flushed."""
    util = _loaded("util")
    if util is not None:
        util._exit_function()
