"""Functions and classes that come by value: the side that receives them (_by_value sends them).

They are built in two steps, as all that pickle builds and that may refer to itself is: made, then completed.

A function gets the globals that it had: those of the module of that name, so that in the child, as in its
parent, all functions of a module see one set of globals, whichever message brought them. Those of `__main__`
come with it, for nobody else brings them. A function, a class or a module among them replaces what is there:
the newest definition counts, and what was defined after the child had started is found. Other values are
put only where nothing is: they are as they were when the child first got them, as under fork, and what an
initializer set stays. By the same rule a function or a class that comes again is the one that is there.

What is defined at the top of `__main__` is found there in the child, too. So what the child sends back is
pickled by reference, as ever, and its parent finds the class that it knows. The other way, an object that
comes through a queue names its class, and the child may not have that yet. So a child whose main module is
not made anew is given the library: all definitions of the parent's, pickled one by one. Who asks the module
for one finds it. Imports nothing of ours.
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import functools
import importlib
import sys
import types
import weakref

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Names: TypeAlias = dict[str, Any]

__all__ = [
    "complete_class",
    "complete_function",
    "fill_cell",
    "find",
    "get_library",
    "globals_of_main",
    "is_among",
    "is_definition",
    "make_cached",
    "make_cell",
    "make_class",
    "make_function",
    "of_main",
    "set_library",
]

MAIN = "__main__"
Cached = type(functools.lru_cache(lambda: None))
_KINDS = (types.FunctionType, type, types.ModuleType, types.BuiltinFunctionType, functools.partial)

_library: dict[str, bytes] = {}  # definitions of the main module that nobody has asked for
_functions: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()  # that may come again
_complete: weakref.WeakSet[Any] = weakref.WeakSet()  # functions and classes


def is_definition(value: object) -> bool:
    """Whether the value of a global is code rather than data: what is replaced by its successor."""
    return isinstance(value, _KINDS) or (callable(value) and hasattr(value, "__wrapped__"))


def globals_of_main() -> Names:
    """The globals of the main module."""
    return vars(sys.modules[MAIN])


def of_main() -> Names:
    """Its functions, classes and modules."""
    return {name: value for name, value in list(globals_of_main().items()) if is_definition(value)}


def get_library() -> dict[str, bytes]:
    """What this process was given and has not used."""
    return dict(_library)


def set_library(definitions: dict[str, bytes]) -> None:
    """In a child: let its main module find these."""
    _library.update(definitions)
    main = globals_of_main()
    main["__getattr__"] = _take_from_library
    for name in definitions.keys() & main.keys():  # by which the interpreter became a child
        del main[name]


def _take_from_library(name: str) -> Any:
    try:
        pickled = _library.pop(name)
    except KeyError:
        raise AttributeError(f"module {MAIN!r} has no attribute {name!r}") from None
    return globals_of_main().setdefault(name, _pickle.loads(pickled))


def find(start: object, qualname: str) -> object:
    """What is reached from there by these attributes; None if nothing is."""
    names = qualname.split(".") if qualname else ()
    return functools.reduce(lambda found, name: getattr(found, name, None), names, start)


def is_among(obj: Any, names: Names) -> bool:
    """Whether a function or a class is found by its qualified name."""
    first, _, rest = obj.__qualname__.partition(".")
    return find(names.get(first), rest) is obj


def make_function(
    key: bytes | None, code: types.CodeType, scope: str | Names, closure: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    """A function with the globals of the module `scope`, or with these. With a key it may be there."""
    function = None if key is None else _functions.get(key)
    if function is None:
        names = vars(importlib.import_module(scope)) if isinstance(scope, str) else scope
        function = types.FunctionType(code, names, closure=closure)
    if key is not None:
        _functions[key] = function
    return function


def complete_function(
    function: types.FunctionType, state: tuple[Names, Names, Names, Names, tuple[str, ...]]
) -> None:
    slots, attributes, home, names, submodules = state
    for name in submodules:
        importlib.import_module(name)
    if function not in _complete:
        for name, value in slots.items():
            setattr(function, name, value)
        function.__dict__.update(attributes)
        _complete.add(function)
    _put(names, function.__globals__)
    _put(home, globals_of_main())


def make_cached(key: bytes, parameters: Names, function: Callable[..., Any]) -> Any:
    """What functools.lru_cache makes of a function."""
    cached = _functions.get(key)
    if cached is None:
        cached = _functions[key] = functools.lru_cache(**parameters)(function)
    return cached


def make_class(make: Callable[..., type], args: tuple[Any, ...], qualname: str) -> type:
    """A class as cloudpickle makes it: the one that is there if it comes again."""
    cls = make(*args)
    cls.__qualname__ = qualname
    return cls


def complete_class(cls: type, state: tuple[Callable[[type, Any], object], Any, Names]) -> None:
    complete, cloudpickles, home = state
    values = {} if cls not in _complete else {k: v for k, v in vars(cls).items() if not is_definition(v)}
    complete(cls, cloudpickles)
    for name, value in values.items():
        if vars(cls).get(name) is not value:
            setattr(cls, name, value)
    _complete.add(cls)
    _put(home, globals_of_main())


def make_cell() -> types.CellType:
    """An empty cell of a closure."""
    return types.CellType()


def fill_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    (cell.cell_contents,) = contents


def _put(names: Names, where: Names) -> None:
    for name, value in names.items():
        if is_definition(value) or name not in where:
            where[name] = value
