"""New interpreters: how they are started, and how one of them becomes a child of its parent.

    parent                                          child
    get_preparation_data                            spawn_main: attach to the arena
    pickle it, and the process object               prepare: sys.path, working directory, `__main__` ...
    into a block that is the child's     -->        unpickle the process object
    execute                                         run it, exit

The child's `__main__` is made anew from the file, or by the name, of the parent's, under the name
`__mp_main__`, so that what follows `if __name__ == "__main__":` does not run again. A main module that was
not read from a file (`-c`, standard input, a notebook) leaves the child's `__main__` empty; what a process
needs of it comes by value (_by_value.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import runpy
import site
import struct
import sys
import types
from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

import fastmp

from . import _beside, _core, _definitions, _install, _logging, process
from ._launch.fork import live
from ._spawning import set_spawning_popen

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, NoReturn

    from .process import BaseProcess

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

WINEXE = WINSERVICE = False

_FLAG = "--multiprocessing-fork"
_SERVERS = ("forkserver", "managers", "resource_tracker")  # modules
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where this package was found
_lengths = struct.Struct("=Q")  # of the preparation data; the process object follows

_executable: str | bytes | None = sys.executable


# ---- starting an interpreter --------------------------------------------------------------------------


def get_executable() -> str | bytes | None:
    """The path of the interpreter."""
    return _executable


def set_executable(exe: str | bytes | os.PathLike[str] | None) -> None:
    """Set the path of the interpreter."""
    global _executable
    _executable = None if exe is None else os.fsencode(exe)


def get_command_line(**kwds: Any) -> list[str | bytes]:
    """The command that runs `spawn_main(**kwds)` in a new interpreter."""
    if getattr(sys, "frozen", False):
        return [sys.executable, _FLAG, *(f"{name}={value!r}" for name, value in kwds.items())]
    arguments = ", ".join(f"{name}={value!r}" for name, value in kwds.items())
    return _command(f"from {__name__} import spawn_main; spawn_main({arguments})")


def execute(code: str, fds: Iterable[int]) -> int:
    """Run code in a new interpreter, which inherits these descriptors and no others; its pid."""
    return run(_command(code), fds)


def run(command: Sequence[str | bytes], fds: Iterable[int]) -> int:
    """Start a program, which inherits these descriptors and no others; its pid."""
    return fastmp.util.spawnv_passfds(get_executable() or sys.executable, command, fds)


def _command(code: str) -> list[str | bytes]:
    if not _is_found_anyway():
        code = f"import sys; sys.path.insert(0, {_FOLDER!r}); {code}"
    return [get_executable() or sys.executable, *_args_from_interpreter_flags(), "-c", code, _FLAG]


def _is_found_anyway() -> bool:
    """Whether a new interpreter finds this very package without being told where it is."""
    return not sys.flags.no_site and _FOLDER in site.getsitepackages()


# ---- the parent's side -----------------------------------------------------------------------------------


def get_preparation_data(name: str) -> dict[str, Any]:
    """What a child of that name needs before it can unpickle its process object."""
    _check_not_importing_main()
    data: dict[str, Any] = {
        "log_to_stderr": _logging.log_to_stderr,
        "authkey": process.current_process().authkey,
        "name": name,
        "sys_path": [process.ORIGINAL_DIR if path == "" else path for path in sys.path],
        "sys_argv": sys.argv,
        "orig_dir": process.ORIGINAL_DIR,
        "dir": _working_directory(),
        "start_method": fastmp.get_start_method(),
        "installed": _install.is_installed(),
        **_main_module(),
    }
    if _logging.logger is not None:
        data["log_level"] = _logging.logger.getEffectiveLevel()
    return data


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _main_module() -> dict[str, str]:
    """How a child may find the main module; nothing if it can't."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    if path is None or WINEXE:
        return {}
    if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:
        path = os.path.join(process.ORIGINAL_DIR, path)
    return {"init_main_from_path": os.path.normpath(path)} if os.path.exists(path) else {}


def main_is_found() -> bool:
    """Whether what the main module defines can be found by a child that was not forked."""
    found = _main_module()
    name = found.get("init_main_from_name", "__main__")
    return "init_main_from_path" in found or not _is_package_main(name)


def _is_package_main(name: str) -> bool:
    """Whether it is the `__main__` of a package, a folder or a zip file, which is run as a program only."""
    return name == "__main__" or name.endswith(".__main__")


def _check_not_importing_main() -> None:
    if getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError("""
        An attempt has been made to start a new process while this one is
        still importing its main module: the program starts a process when
        it is imported, so the child would start one, and so on.

        A program whose processes are not forked guards its start:

            if __name__ == '__main__':
                freeze_support()  # only needed in a frozen program
                ...
        """)


_NOBODY = object()  # nothing is opened or held for a child that may never ask for it


@contextlib.contextmanager
def _pickling_for(popen: Any) -> Iterator[None]:
    set_spawning_popen(popen)
    _beside.set_spawning_popen(popen)
    try:
        yield
    finally:
        set_spawning_popen(None)
        _beside.set_spawning_popen(None)


def pack(popen: Any, process_obj: BaseProcess) -> _core.Block:
    """All that the process which `popen` starts needs, pickled into the block that it gets."""
    dumps = fastmp.reduction.dumps_for_child
    with _pickling_for(_NOBODY):
        library = {} if main_is_found() else fastmp._by_value.make_library()
    with _pickling_for(popen):
        data = get_preparation_data(process_obj._name) | _servers() | {"library": library}
        parts = [dumps(data), dumps(process_obj)]
    block = _core.Block(_lengths.size + sum(map(len, parts)))
    with memoryview(block) as view:
        _lengths.pack_into(view, 0, len(parts[0]))
        at = _lengths.size
        for part in parts:
            view[at : at + len(part)] = part
            at += len(part)
    return block


def _servers() -> dict[str, Any]:
    """How the child reaches the servers of the family, as far as this process does."""
    loaded = ((name, sys.modules.get(f"fastmp.{name}")) for name in _SERVERS)
    return {name: state for name, module in loaded if module is not None and (state := module.get_state())}


# ---- the child's side --------------------------------------------------------------------------------------


def is_forking(argv: Sequence[str]) -> bool:
    """Whether this program was run to become a child."""
    return len(argv) >= 2 and argv[1] == _FLAG


def freeze_support() -> None:
    """In a frozen program that was run to become a child: become it."""
    if is_forking(sys.argv):
        arguments = (argument.split("=", 1) for argument in sys.argv[2:])
        spawn_main(**{name: int(value) for name, value in arguments})


def spawn_main(arena: int, owner: int, name: int, index: int, serial: int) -> NoReturn:
    """The life of a spawned child, from where it finds its arguments (Popen._launch)."""
    assert is_forking(sys.argv), "not a child that is being spawned"
    os.set_inheritable(arena, False)
    _core.attach(arena, owner)
    live(_main(_core.Block.attach((name, index, serial, 0)))._bootstrap)


def _main(block: _core.Block) -> BaseProcess:
    """Prepare this process, then unpickle its process object."""
    with memoryview(block) as view:
        (length,) = _lengths.unpack_from(view)
        arguments = _lengths.size + length
        process.current_process()._inheriting = True  # type: ignore[attr-defined]
        try:
            prepare(pickle.loads(view[_lengths.size : arguments]))
            child: BaseProcess = pickle.loads(view[arguments:])
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
        _install.install()
    for name in _SERVERS:
        if name in data:
            getattr(fastmp, name).set_state(data[name])
    if data.get("library"):
        _definitions.set_library(data["library"])
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


# ---- the child's main module ------------------------------------------------------------------------------

old_main_modules: list[types.ModuleType] = []  # their functions may still be in use


def _fixup_main_from_name(mod_name: str) -> None:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if _is_package_main(mod_name) or getattr(spec, "name", None) == mod_name:
        return
    _replace_main(functools.partial(runpy.run_module, mod_name, alter_sys=True))


def _fixup_main_from_path(main_path: str) -> None:
    name = os.path.splitext(os.path.basename(main_path))[0]
    if name == "ipython" or getattr(sys.modules["__main__"], "__file__", None) == main_path:
        return
    _replace_main(functools.partial(runpy.run_path, main_path))


def _replace_main(run: Callable[..., object]) -> None:
    catcher = _ModuleCatcher()
    run(init_globals=catcher, run_name="__mp_main__")
    old_main_modules.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = catcher.module


class _ModuleCatcher:
    """Initial globals for runpy, there are none. Asked for them it gets hold of the module in which the code
    is run: what runpy returns is a copy, and the functions go on with the globals of the module."""

    module: types.ModuleType

    def keys(self) -> tuple[str, ...]:
        self.module = sys.modules["__mp_main__"]
        return ()

    def __getitem__(self, name: str) -> NoReturn:
        raise KeyError(name)


def import_main_path(main_path: str) -> None:
    """Make the main module from its file."""
    _fixup_main_from_path(main_path)
