"""`import multiprocessing` means fastmp in this process and its children, after install().

The same module objects get a second name, never a second copy: those that are loaded already at once, the
others by a finder when they are imported. A module that fastmp lacks is a ModuleNotFoundError. Code that
holds the standard library's modules already goes on with them, and so do processes that they started;
only concurrent.futures is told, so that its ProcessPoolExecutor uses what is installed. Forked children
inherit all this, and those that are not forked are told to install too, before they import anything of the
program. uninstall() brings back what was there.
A leaf: imports nothing of fastmp when it is loaded.
"""

from __future__ import annotations

import atexit
import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["install", "is_installed", "load_ipython_extension", "uninstall", "unload_ipython_extension"]

_OURS = __name__.rpartition(".")[0]
_STANDS_FOR = {"multiprocessing": _OURS, "_multiprocessing": f"{_OURS}._multiprocessing"}
_EXECUTORS = "concurrent.futures.process"

_replaced: dict[str, ModuleType] = {}


def install() -> None:
    """From now on the name `multiprocessing`, with all its submodules, stands for fastmp."""
    if is_installed():
        return
    _replaced.update(_take_out_aliases())
    for name, module in list(sys.modules.items()):
        for alias, ours in _STANDS_FOR.items():
            if _within(name, ours):
                sys.modules[alias + name[len(ours) :]] = module
    sys.meta_path.insert(0, _Aliases)
    atexit.register(_prepare_exit)
    _tell_executors()


def uninstall() -> None:
    """Undo install(): the name `multiprocessing` stands for what it stood for before."""
    if not is_installed():
        return
    sys.meta_path.remove(_Aliases)
    atexit.unregister(_prepare_exit)
    _take_out_aliases()
    sys.modules.update(_replaced)
    _replaced.clear()
    _tell_executors()


def is_installed() -> bool:
    """Whether `multiprocessing` means fastmp now."""
    return _Aliases in sys.meta_path


def load_ipython_extension(ipython: object) -> None:
    """%load_ext fastmp: install() for a notebook."""
    install()


def unload_ipython_extension(ipython: object) -> None:
    """%unload_ext fastmp: uninstall() for a notebook."""
    uninstall()


class _Aliases:
    """Finds and loads `multiprocessing.x` by putting fastmp.x in its place in sys.modules."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = _our_name(name)
        if ours is None:
            return None
        if (
            ours not in sys.modules
            and PathFinder.find_spec(ours, path or sys.modules[_OURS].__path__) is None
        ):
            return None  # nor will anybody else find it: the package's path is fastmp's
        return ModuleSpec(name, cls)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType | None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        # The import system takes what it finds in sys.modules afterwards. Had create_module returned
        # our module, its name, spec and loader would have been overwritten.
        name = module.__name__
        ours = _our_name(name)
        assert ours is not None, "find_spec took it for ours"
        sys.modules[name] = importlib.import_module(ours)


def _our_name(name: str) -> str | None:
    """What stands for the module of this name, or None if it is no business of ours."""
    top, dot, rest = name.partition(".")
    ours = _STANDS_FOR.get(top)
    return None if ours is None else ours + dot + rest


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _take_out_aliases() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _our_name(name) is not None}


def _tell_executors() -> None:
    """Have a concurrent.futures that is loaded already take its queues and contexts from here.

    It is loaded once more, in place: the functions of the classes that programs hold look its names up. The
    classes themselves stay, for they are what programs catch and subclass, and so does the table of the
    threads that the exit of the program wakes.
    """
    module = sys.modules.get(_EXECUTORS)
    if module is None:
        return
    stay = ("ProcessPoolExecutor", "BrokenProcessPool", "_threads_wakeups")
    kept = {name: value for name, value in vars(module).items() if name in stay}
    importlib.reload(module)
    vars(module).update(kept)


def _prepare_exit() -> None:
    """An executor that is collected by the end of the interpreter looks for multiprocessing.util, when
    nothing can be imported any more."""
    if _EXECUTORS in sys.modules:
        importlib.import_module(f"{_OURS}.util")
