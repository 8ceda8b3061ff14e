"""Main modules made anew by runpy, which is slow to import: those that are known by name, and programs that
are no source code. A leaf: imports nothing of fastmp."""

from __future__ import annotations

import runpy
import sys

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

__all__ = ["run_module", "run_path"]


def run_module(name: str, as_name: str) -> ModuleType:
    """The module of that name, run under another one."""
    catcher = _ModuleCatcher(as_name)
    runpy.run_module(name, catcher, as_name, alter_sys=True)  # type: ignore[arg-type]
    return catcher.module


def run_path(path: str, as_name: str) -> ModuleType:
    """The program that lies there, run under that name."""
    catcher = _ModuleCatcher(as_name)
    runpy.run_path(path, catcher, as_name)  # type: ignore[arg-type]
    return catcher.module


class _ModuleCatcher:
    """Initial globals for runpy, there are none. Asked for them it gets hold of the module in which the code
    is run: what runpy returns is a copy, and the functions go on with the globals of the module."""

    module: ModuleType

    def __init__(self, name: str) -> None:
        self._name = name

    def keys(self) -> tuple[str, ...]:
        self.module = sys.modules[self._name]
        return ()

    def __getitem__(self, name: str) -> NoReturn:
        raise KeyError(name)
