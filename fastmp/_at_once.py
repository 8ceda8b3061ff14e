"""Two steps that no signal handler comes between.

The interpreter looks for signals when a call has returned, and before its result has a name. If a handler
raises there, a process or a descriptor that the call has made is lost. So what is made is handed on by code
in C, which looks for none.
"""

from __future__ import annotations

from itertools import starmap

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["at_once"]


def at_once(keep: Callable[[Any], Any], make: Callable[..., Any], *args: Any) -> Any:
    """keep(make(*args)), of two functions that are written in C."""
    return next(map(keep, starmap(make, [args])))
