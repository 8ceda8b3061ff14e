"""How a pool's tasks are pickled: by reference, or with what the workers can't find by value (_by_value).

The board pickles a task by reference. It is told otherwise, for that takes longer,

- if there is something in a task that can't be pickled by reference: a lambda, a closure;
- always, if the workers were not forked and can't make this main module anew;
- if the function of a task, or any definition, came into the main module after the pool had started. If that
  is a notebook or a prompt, where definitions come and go, this is looked at for every task, and with it all
  that the task refers to.
"""

from __future__ import annotations

import functools
import pickle
import sys
import types

import fastmp

from .. import reduction
from .._definitions import MAIN, Cached, globals_of_main, is_among, is_definition, of_main

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from .._definitions import Names
    from .tasks import Task

    Dumps: TypeAlias = Callable[[Task], bytes]


class Packer:
    """Knows what the workers of a pool have in their main module."""

    def __init__(self, forked: bool) -> None:
        self._may_find = forked or fastmp.spawn.main_is_found()
        self._changes = getattr(sys.modules[MAIN], "__file__", "<").startswith("<")
        main = globals_of_main()
        self._size = len(main)
        self._definitions = of_main() if self._may_find else {}
        values = [name for name in list(main) if name not in self._definitions] if forked else ()
        self._known: Names = dict.fromkeys(values) | self._definitions  # as _by_value has it

    def add_workers(self) -> None:
        """Some more are about to start, and may have less than the others."""
        self._look_around()
        main = globals_of_main()
        self._known = {name: value for name, value in self._known.items() if name in main}

    def choose(self, func: Any) -> Dumps | None:
        """What pickles a task with this function; None for the usual way."""
        if not self._may_find:
            return self.by_value
        self._look_around()
        if not self._is_known(func):
            return self.by_value
        return self._by_reference if self._changes else None

    def _look_around(self) -> None:
        """Once a definition has changed, or come, all go by value: any of the old ones may lead to it."""
        main = globals_of_main()
        old = self._definitions
        if len(main) == self._size and list(map(main.get, old)) == list(old.values()):
            return
        self._size = len(main)
        if of_main() != old:
            self._known = {name: None for name, value in self._known.items() if not is_definition(value)}

    def by_value(self, task: Task) -> bytes:
        """The pickle of a task, with all that the workers don't know by value."""
        pickled: bytes = fastmp._by_value.dumps(task, self._known)
        return pickled

    def _by_reference(self, task: Task) -> bytes:
        """The pickle of a task. Unknown if there is something that the workers don't have."""
        reduction._merge()
        chunks = reduction._Chunks()
        _Checking(chunks, self._known).dump(task)
        return b"".join(chunks)

    def _is_known(self, func: Any) -> bool:
        while isinstance(func, functools.partial):
            func = func.func
        func = getattr(func, "__func__", func)
        if not hasattr(func, "__qualname__"):
            func = type(func)
        return getattr(func, "__module__", None) != MAIN or is_among(func, self._known)


class Unknown(pickle.PicklingError):
    """There is something in a task that the workers don't have."""


class _Checking(pickle.Pickler):
    """Pickles by reference, and refuses what is unknown."""

    def __init__(self, file: Any, known: Names) -> None:
        super().__init__(file)
        self.dispatch_table = reduction._merged
        self._known = known

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        is_named = kind is types.FunctionType or issubclass(kind, type) or kind is Cached
        if is_named and obj.__module__ == MAIN and not is_among(obj, self._known):
            raise Unknown(f"the workers do not know {obj!r}")
        return NotImplemented


def is_kept(func: Any) -> bool:
    """Whether a function may be remembered, for it leads to nothing that should be gone by then."""
    if isinstance(func, types.BuiltinFunctionType):
        return isinstance(func.__self__, types.ModuleType)
    return isinstance(func, _NAMED) and getattr(func, "__closure__", None) is None


_NAMED = (type, types.FunctionType, types.MethodDescriptorType)
