"""Functions and classes that a child can't import go by value: as their code and what it refers to.

Only from a process to its children: the arguments of those that are not forked (reduction.dumps_for_child),
and the tasks of a pool. What the child can import goes by reference, as ever. That leaves

- lambdas, functions and classes made within functions, and their closures;
- what `__main__` defines, if the child can't make that module anew: it was not read from a file (a notebook,
  `-c`, standard input), or is a package's, a folder's or a zip file's;
- what `__main__` got after the child was forked.

`known` says what the child has in `__main__`: by name the definition (a function, a class, a module), or None
for another value, which then need not be sent.

cloudpickle knows how to take classes apart. Functions are taken apart here, since those of one module have to
go on sharing its globals over many messages: their code is marshalled, which takes the same interpreter on
both sides, their globals are named, and only those of `__main__` are sent with them. The other side, and the
rules for globals that it has already, is _definitions; it needs cloudpickle for classes only.
"""

from __future__ import annotations

import contextlib
import dis
import importlib
import io
import itertools
import marshal
import os
import sys
import types
import weakref

from cloudpickle import CloudPickler  # type: ignore[import-untyped]

from . import reduction
from ._definitions import (
    MAIN,
    Cached,
    complete_class,
    complete_function,
    fill_cell,
    find,
    get_library,
    globals_of_main,
    is_among,
    is_definition,
    make_cached,
    make_cell,
    make_class,
    make_function,
    of_main,
)

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from _typeshed import ReadableBuffer

    from ._definitions import Names

__all__ = ["dumps", "make_library"]

_MAINS = (MAIN, "__mp_main__")  # the names of a main module, the second in a child that made it anew
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL"})
_SLOTS = (
    *("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__"),
    *("__type_params__", "__annotate__"),  # since 3.12 and 3.14
)

_MOST_BYTES = 1 << 16  # of a definition in the library: no data to speak of

_keys: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
_global_names: weakref.WeakKeyDictionary[types.CodeType, frozenset[str]] = weakref.WeakKeyDictionary()


def dumps(obj: Any, known: Names) -> bytes:
    """The pickle of an object for a child that has in its main module what is known."""
    reduction._merge()
    file = io.BytesIO()
    _Pickler(file, known).dump(obj)
    return file.getvalue()


def make_library() -> dict[str, bytes]:
    """The definitions of the main module for a child that can't make it anew, but for those that can't be
    pickled, or take too much with them."""
    reduction._merge()
    library = get_library()
    for name, value in of_main().items():
        if getattr(value, "__module__", None) in _MAINS:
            file = _Limited()
            with contextlib.suppress(Exception):
                _Pickler(file, {}).dump(value)
                library[name] = file.getvalue()
    return library


class _Limited(io.BytesIO):
    """A file that takes no more than a definition may need."""

    def write(self, data: ReadableBuffer) -> int:
        if self.tell() + memoryview(data).nbytes > _MOST_BYTES:
            raise OverflowError
        return super().write(data)


class _Pickler(CloudPickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by reference what the child finds, and the rest by value."""

    def __init__(self, file: io.BytesIO, known: Names) -> None:
        self.dispatch_table = _REDUCERS | reduction._merged
        super().__init__(file)
        self._known = known
        self._scopes: dict[int, Names] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            return NotImplemented if self._is_found(obj) else self._reduce_function(obj)
        if issubclass(kind, type):
            return NotImplemented if self._is_found(obj) else self._reduce_class(obj)
        if kind is Cached:
            return NotImplemented if self._is_found(obj) else self._reduce_cached(obj)
        if obj is sys.stdout or obj is sys.stderr:
            return getattr, (sys, "stdout" if obj is sys.stdout else "stderr")
        return NotImplemented

    def _is_found(self, obj: Any) -> bool:
        if obj.__module__ == MAIN:
            return is_among(obj, self._known)
        return find(sys.modules.get(obj.__module__), obj.__qualname__) is obj

    def _reduce_function(self, function: types.FunctionType) -> tuple[Any, ...]:
        closure = function.__closure__
        key = _key_of(function) if closure is None else None  # one with a closure is made anew each time
        module = _module_of(function)
        home = self._home_of(function)
        names = {} if module not in (None, MAIN) else _missing(function, self._known if module else {})
        state = (_slots_of(function), function.__dict__, home, names, _submodules_of(function, names))
        scope = module or self._scopes.setdefault(id(function.__globals__), {})
        return make_function, (key, function.__code__, scope, closure), state, None, None, complete_function

    def _home_of(self, obj: Any) -> Names:
        """The global of the main module that is, or leads to, a function or a class; nothing if none does."""
        main = globals_of_main()
        if obj.__module__ not in _MAINS or not is_among(obj, main):
            return {}
        first = obj.__qualname__.partition(".")[0]
        self._known.pop(first, None)
        return {first: main[first]}

    def _reduce_cached(self, cached: Any) -> tuple[Any, ...]:
        return make_cached, (_key_of(cached), cached.cache_parameters(), cached.__wrapped__)

    def _reduce_class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented or len(reduced) == 2:
            return reduced
        make, args, state, _, _, complete = reduced
        state = complete, state, self._home_of(cls)
        return make_class, (make, args, cls.__qualname__), state, None, None, complete_class


def _key_of(obj: Any) -> bytes:
    """A name for it that nothing else has, in any process."""
    return _keys.setdefault(obj, os.urandom(16))


def _module_of(function: types.FunctionType) -> str | None:
    """The name of the module that has the globals of a function, if one has that the child can get."""
    name = function.__globals__.get("__name__")
    if name in _MAINS:
        return MAIN
    module = sys.modules.get(name) if isinstance(name, str) else None
    is_it = getattr(module, "__dict__", None) is function.__globals__
    return name if is_it and getattr(module, "__spec__", None) is not None else None


def _missing(function: types.FunctionType, known: Names) -> Names:
    """What a function needs of its globals and the child has not; from now on it is not known what it has."""
    names = function.__globals__
    missing = {}
    for name in _global_names_of(function.__code__) & names.keys():
        value = names[name]
        if name not in known or (known[name] is not value and is_definition(value)):
            missing[name] = value
            known.pop(name, None)
    return missing


def _slots_of(function: types.FunctionType) -> Names:
    slots = {name: getattr(function, name) for name in _SLOTS if hasattr(function, name)}
    if slots.get("__annotate__") is None:  # there is none before 3.14, or annotations were set
        slots["__annotations__"] = function.__annotations__
    return slots


def _global_names_of(code: types.CodeType) -> frozenset[str]:
    """The names that code, and code within it, may look up in globals."""
    names = _global_names.get(code)
    if names is None:
        own = (step.argval for step in dis.get_instructions(code) if step.opname in _LOADS)
        inner = (_global_names_of(const) for const in code.co_consts if isinstance(const, types.CodeType))
        names = _global_names[code] = frozenset(itertools.chain(own, *inner))
    return names


def _submodules_of(function: types.FunctionType, names: Names) -> tuple[str, ...]:
    """Modules that a function reaches as attributes of packages: to import the package may not load them."""
    values = itertools.chain(names.values(), _contents_of(function.__closure__ or ()))
    packages = [
        value.__name__
        for value in values
        if hasattr(value, "__path__") and isinstance(value, types.ModuleType)
    ]
    if not packages:
        return ()
    attributes = set(_names_of(function.__code__))
    return tuple(
        name
        for name, package in itertools.product(list(sys.modules), packages)
        if name.startswith(f"{package}.") and attributes.issuperset(name[len(package) + 1 :].split("."))
    )


def _contents_of(cells: Iterable[types.CellType]) -> Iterator[Any]:
    for cell in cells:
        with contextlib.suppress(ValueError):  # it may be empty
            yield cell.cell_contents


def _names_of(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names_of(const)


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    return marshal.loads, (marshal.dumps(code),)


def _reduce_cell(cell: types.CellType) -> tuple[Any, ...]:
    contents = tuple(_contents_of((cell,)))
    return (make_cell, (), contents, None, None, fill_cell) if contents else (make_cell, ())


def _reduce_module(module: types.ModuleType) -> Any:
    if sys.modules.get(module.__name__) is module:
        return importlib.import_module, (module.__name__,)
    return CloudPickler.dispatch_table[types.ModuleType](module)


_REDUCERS: dict[type, Any] = {
    **CloudPickler.dispatch_table,
    types.CodeType: _reduce_code,
    types.CellType: _reduce_cell,
    types.ModuleType: _reduce_module,
}
for _kind in (io.TextIOWrapper, memoryview):
    _REDUCERS.pop(_kind, None)  # cloudpickle would read the file, copy the memory; pickle refuses
_REDUCERS.pop(types.MethodType, None)  # as pickle does it, by name
