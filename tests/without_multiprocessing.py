"""A pytest plugin (-p without_multiprocessing): multiprocessing cannot be imported in this interpreter."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

BLOCKED = {"multiprocessing", "_multiprocessing"}


class Block(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{fullname} is blocked", name=fullname)
        return None


imported = [name for name in sys.modules if name.partition(".")[0] in BLOCKED]
assert not imported, f"too late to block {imported}"
sys.meta_path.insert(0, Block())
