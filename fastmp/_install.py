"""`import multiprocessing` means fastmp in this process, after install().

The same module objects get a second name, never a second copy: those that are loaded already at once, the
others by a finder when they are imported. A module that fastmp lacks is a ModuleNotFoundError. Code that
holds the standard library's modules already goes on with them, and so do processes that they started.
uninstall() brings back what was there.
A leaf: imports nothing of fastmp when it is loaded.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_STANDARD = "multiprocessing"
_OURS = __name__.rpartition(".")[0]

_replaced: dict[str, ModuleType] = {}


def install() -> None:
    """From now on the name `multiprocessing`, with all its submodules, stands for fastmp."""
    if _Aliases in sys.meta_path:
        return
    _replaced.update(_take_out(_STANDARD))
    for name, module in list(sys.modules.items()):
        if _within(name, _OURS):
            sys.modules[_renamed(name, _OURS, _STANDARD)] = module
    sys.meta_path.insert(0, _Aliases)


def uninstall() -> None:
    """Undo install(): the name `multiprocessing` stands for what it stood for before."""
    if _Aliases not in sys.meta_path:
        return
    sys.meta_path.remove(_Aliases)
    _take_out(_STANDARD)
    sys.modules.update(_replaced)
    _replaced.clear()


class _Aliases:
    """Finds and loads `multiprocessing.x` by putting fastmp.x in its place in sys.modules."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _within(name, _STANDARD):
            return None
        ours = _renamed(name, _STANDARD, _OURS)
        if ours not in sys.modules and PathFinder.find_spec(ours, path) is None:
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
        sys.modules[name] = importlib.import_module(_renamed(name, _STANDARD, _OURS))


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _renamed(name: str, old: str, new: str) -> str:
    return new + name[len(old) :]


def _take_out(package: str) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _within(name, package)}
