"""How a new interpreter becomes a child of its parent: the child's side of spawn.py, which gives the whole.

It is all that a spawned child imports before its own program, so nothing is imported here that is slow, and
what is seldom needed only when it is.
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import io
import os
import sys

import fastmp

from . import _beside, _core, process
from ._launch.fork import live

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import ModuleType
    from typing import Any, NoReturn

    from .process import BaseProcess

__all__ = ["import_main_path", "is_forking", "is_package_main", "old_main_modules", "prepare", "spawn_main"]

FLAG = "--multiprocessing-fork"
LENGTH_BYTES = 8  # of the length of the preparation data, which follows; then the process object
SHARED = ("sys_", "dir", "orig_dir", "start_method", "installed", "init_main_")
SERVERS = ("forkserver", "managers", "resource_tracker")  # modules


def is_forking(argv: Sequence[str]) -> bool:
    """Whether this program was run to become a child."""
    return len(argv) >= 2 and argv[1] == FLAG


def spawn_main(arena: int, owner: int, name: int, index: int, serial: int, blocked: int = 0) -> NoReturn:
    """The life of a spawned child, from where it finds its arguments (Popen._launch), and whether its parent
    blocks SIGINT."""
    assert is_forking(sys.argv), "not a child that is being spawned"
    if not blocked:
        _core.hold_interrupts()
    os.set_inheritable(arena, False)
    _core.attach(arena, owner)
    live(_main(_core.Block.attach((name, index, serial, 0)))._bootstrap)


def hold_interrupts(blocked: Collection[int]) -> None:
    """Where SIGINT is blocked, block what the parent of this child does. Until run() Ctrl-C ends it."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, {*blocked, _signal.SIGINT})
    if _signal.SIGINT not in blocked:
        _core.hold_interrupts()


def _main(block: _core.Block, prepared: bool = False) -> BaseProcess:
    """Prepare this process, unless what all children share is done, then unpickle its process object."""
    with memoryview(block) as view:
        arguments = LENGTH_BYTES + int.from_bytes(view[:LENGTH_BYTES], sys.byteorder)
        process.current_process()._inheriting = True  # type: ignore[attr-defined]
        try:
            data = _pickle.loads(view[LENGTH_BYTES:arguments])
            prepare({key: data[key] for key in data if not (prepared and key.startswith(SHARED))})
            child: BaseProcess = _pickle.loads(view[arguments:])
        finally:
            del process.current_process()._inheriting  # type: ignore[attr-defined]
    _core.unpickled()
    _beside.take_over()
    return child


def prepare(data: dict[str, Any]) -> None:
    """Make this process look like its parent; `data` is what get_preparation_data() gave there."""
    if "name" in data:
        process.current_process().name = data["name"]
    if "authkey" in data:
        process.current_process().authkey = data["authkey"]
    if data.get("log_to_stderr"):
        fastmp.util.log_to_stderr()
    if "log_level" in data:
        fastmp.util.get_logger().setLevel(data["log_level"])
    if "sys_path" in data:
        sys.path = data["sys_path"]
    if "sys_argv" in data:
        sys.argv = data["sys_argv"]
    if data.get("dir") is not None:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    if "start_method" in data:
        fastmp.set_start_method(data["start_method"], force=True)
    if data.get("installed"):
        fastmp.install()
    for name in SERVERS:
        if name in data:
            getattr(fastmp, name).set_state(data[name])
    if data.get("library"):
        fastmp._definitions.set_library(data["library"])
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


# ---- the main module ----------------------------------------------------------------------------------

MAIN = "__mp_main__"

old_main_modules: list[ModuleType] = []  # their functions may still be in use


def is_package_main(name: str) -> bool:
    """Whether it is the `__main__` of a package, a folder or a zip file, which is run as a program only."""
    return name == "__main__" or name.endswith(".__main__")


def import_main_path(main_path: str) -> None:
    """Make the main module from its file."""
    _fixup_main_from_path(main_path)


def _fixup_main_from_name(mod_name: str) -> None:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if is_package_main(mod_name) or getattr(spec, "name", None) == mod_name:
        return
    _replace_main(fastmp._rerun.run_module(mod_name, MAIN))


def _fixup_main_from_path(main_path: str) -> None:
    name = os.path.splitext(os.path.basename(main_path))[0]
    if name == "ipython" or getattr(sys.modules["__main__"], "__file__", None) == main_path:
        return
    with io.open_code(main_path) as file:
        source = file.read()
    if b"\0" in source:  # it is compiled, or a zip file
        _replace_main(fastmp._rerun.run_path(main_path, MAIN))
    else:
        _replace_main(_run_source(source, main_path))


def _replace_main(main: ModuleType) -> None:
    old_main_modules.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules[MAIN] = main


def _run_source(source: bytes, path: str) -> ModuleType:
    """What runpy.run_path() does for a file of source code; runpy is slow to import."""
    main = type(sys)(MAIN)
    vars(main).update(__file__=path, __package__="")
    if "__cached__" in globals():  # until 3.14
        vars(main)["__cached__"] = None
    replaced, program = sys.modules[MAIN], sys.argv[:1]
    sys.modules[MAIN], sys.argv[:1] = main, [path]
    try:
        exec(compile(source, path, "exec", dont_inherit=True), vars(main))
    finally:
        sys.modules[MAIN], sys.argv[:1] = replaced, program
    return main
