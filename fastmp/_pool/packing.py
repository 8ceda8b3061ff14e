"""How a pool's tasks are packed for its workers: by reference, and what they can't find by value (_by_value).

The board pickles a task as it is, by reference. A parcel in its place goes by value, which takes longer:

- a task with something in it that can't be pickled by reference: a lambda, a closure;
- every task, if what is found here under its name may not be found in the workers: where they were not forked
  and can't make this main module anew, or the main module is no file, but a notebook or a prompt, where
  functions come and go;
- a task whose function the main module got after the pool had started.
"""

from __future__ import annotations

import functools
import sys

import fastmp

from .._definitions import MAIN, globals_of_main, is_among, is_definition, of_main

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from .._definitions import Names
    from .tasks import Task


class Packer:
    """Knows what the workers of a pool have in their main module."""

    def __init__(self, forked: bool) -> None:
        self._look = _all_of_main if forked else of_main  # main made anew: values may be others
        if forked:
            self._always = not hasattr(sys.modules[MAIN], "__file__")
        else:
            self._always = not fastmp.spawn.main_is_found()
        self._known = self._look() if forked or not self._always else {}  # as _by_value has it

    def add_worker(self) -> None:
        """One more is about to start: what has changed since the first did is not the same in all of them."""
        now = self._look()
        self._known = {n: v for n, v in self._known.items() if n in now and now[n] is v}

    def is_needed(self, func: Any) -> bool:
        """Whether a task with this function must be a parcel, so far as the function tells."""
        return self._always or not self._is_known(func)

    def _is_known(self, func: Any) -> bool:
        while isinstance(func, functools.partial):
            func = func.func
        func = getattr(func, "__func__", func)
        if not hasattr(func, "__qualname__"):
            func = type(func)
        return getattr(func, "__module__", None) != MAIN or is_among(func, self._known)

    def pack(self, task: Task) -> Any:
        """A parcel with the task in it."""
        return fastmp._by_value.Parcel(task, self._known)


def _all_of_main() -> Names:
    return {n: v if is_definition(v) else None for n, v in list(globals_of_main().items())}


def is_kept(func: Any) -> bool:
    """Whether a function may be remembered, for it leads to nothing that should be gone by then."""
    return isinstance(func, (type, type(is_kept))) and getattr(func, "__closure__", None) is None
