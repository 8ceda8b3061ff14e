"""New interpreters: how they are started, and how one of them becomes a child of its parent.

    parent                                          child
    get_preparation_data                            spawn_main: attach to the arena
    pickle it, and the process object               prepare: sys.path, working directory, `__main__` ...
    into a block that is the child's     -->        unpickle the process object
    execute                                         run it, exit

The child's side is in _newborn.py, which is all that the child imports.
The child's `__main__` is made anew from the file, or by the name, of the parent's, under the name
`__mp_main__`, so that what follows `if __name__ == "__main__":` does not run again. A main module that was
not read from a file (`-c`, standard input, a notebook) leaves the child's `__main__` empty; what a process
needs of it comes by value (_by_value.py).
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import functools
import importlib
import os
import site
import sys

import fastmp

from . import _beside, _core, _install, _logging, _spawning, process
from ._at_once import at_once
from ._newborn import FLAG, LENGTH_BYTES, SERVERS, SHARED, is_package_main, spawn_main
from ._newborn import _fixup_main_from_name as _fixup_main_from_name
from ._newborn import _fixup_main_from_path as _fixup_main_from_path
from ._newborn import _main as _main
from ._newborn import import_main_path as import_main_path
from ._newborn import is_forking as is_forking
from ._newborn import old_main_modules as old_main_modules
from ._newborn import prepare as prepare

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, BinaryIO

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

ONCE = ("log_to_stderr", "log_level", "installed")  # of what a child is told: it is not to be told twice

WINEXE = WINSERVICE = False

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where this package was found

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
        return [sys.executable, FLAG, *(f"{name}={value!r}" for name, value in kwds.items())]
    arguments = ", ".join(f"{name}={value!r}" for name, value in kwds.items())
    return command(f"from {spawn_main.__module__} import spawn_main; spawn_main({arguments})")


def execute(code: str, fds: Iterable[int], born: Callable[[int], object]) -> None:
    """Run code in a new interpreter, which inherits these descriptors and no others. `born`, in C, is told
    its pid before a signal handler can raise. It begins with SIGINT blocked."""
    run(command(code), fds, born)


def run(command: Sequence[str | bytes], fds: Iterable[int], born: Callable[[int], object]) -> None:
    """Start a program in the same way."""
    fastmp.util._spawn(get_executable() or sys.executable, command, fds, born, [_signal.SIGINT])


def command(code: str) -> list[str | bytes]:
    if not _is_found_anyway():
        code = f"import sys; sys.path.insert(0, {_FOLDER!r}); {code}"
    return [get_executable() or sys.executable, *_flags(), "-c", code, FLAG]


def _flags() -> list[str]:
    # It brings threading along, which has something to do in each child of the fork server.
    flags: list[str] = importlib.import_module("subprocess")._args_from_interpreter_flags()
    return flags


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
        "start_method": fastmp.get_start_method(allow_none=True),
        "installed": _install.is_installed(),
        **get_main_module(),
    }
    if _logging.logger is not None:
        data["log_level"] = _logging.logger.getEffectiveLevel()
    return data


def get_shared_preparation() -> dict[str, Any]:
    """The part of it that all children share, which may be told to them before it is known what they are."""
    every = get_preparation_data("")
    shared = {key: every[key] for key in every if key.startswith(SHARED)}
    return shared | {"sys_argv": list(sys.argv)}


def in_memory(obj: object) -> BinaryIO:
    """A file in memory with the pickle of an object. Unlike a pipe it takes any size at once."""
    file: BinaryIO = at_once(functools.partial(open, mode="w+b"), os.memfd_create, "fastmp-settings")
    _pickle.dump(obj, file)
    file.seek(0)
    return file


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def get_main_module() -> dict[str, str]:
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
    found = get_main_module()
    name = found.get("init_main_from_name", "__main__")
    return "init_main_from_path" in found or not is_package_main(name)


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


def _pickle_for(popen: Any, pickle: Callable[..., Any], *args: Any) -> Any:
    """Call a function that pickles for the process which `popen` starts."""
    ours = _spawning._tls
    theirs = _beside.get_spawning() or ours
    try:
        ours.spawning_popen = theirs.spawning_popen = popen
        return pickle(*args)
    finally:
        ours.spawning_popen = theirs.spawning_popen = None  # by no call: at that a handler might raise


def pack(popen: Any, process_obj: BaseProcess) -> _core.Block:
    """All that the process which `popen` starts needs, pickled into the block that it gets."""
    library = {} if main_is_found() else _pickle_for(_NOBODY, fastmp._by_value.make_library)
    block: _core.Block = _pickle_for(popen, _pack, process_obj, library)
    return block


def _pack(process_obj: BaseProcess, library: dict[str, Any]) -> _core.Block:
    dumps = fastmp.reduction.dumps_for_child
    data = get_preparation_data(process_obj._name) | _servers() | {"library": library}
    return _in_block(dumps(data), dumps(process_obj))


def pack_example(process_obj: BaseProcess) -> _core.Block:
    """The same for a child that is told nothing but what it finds, whoever it will be."""
    block: _core.Block = _pickle_for(_NOBODY, _pack_examples, process_obj)
    return block


def _pack_examples(process_obj: BaseProcess) -> _core.Block:
    dumps = fastmp.reduction.dumps
    data = get_preparation_data(process.current_process().name)
    return _in_block(dumps({key: data[key] for key in data if key not in ONCE}), dumps(process_obj))


def _in_block(data: bytes, process_obj: bytes) -> _core.Block:
    parts = [len(data).to_bytes(LENGTH_BYTES, sys.byteorder), data, process_obj]
    block = _core.Block(sum(map(len, parts)))
    with memoryview(block) as view:
        at = 0
        for part in parts:
            view[at : at + len(part)] = part
            at += len(part)
    return block


def _servers() -> dict[str, Any]:
    """How the child reaches the servers of the family, as far as this process does."""
    loaded = ((name, sys.modules.get(f"fastmp.{name}")) for name in SERVERS)
    return {name: state for name, module in loaded if module is not None and (state := module.get_state())}


# ---- the child's side --------------------------------------------------------------------------------------


def freeze_support() -> None:
    """In a frozen program that was run to become a child: become it."""
    if is_forking(sys.argv):
        arguments = (argument.split("=", 1) for argument in sys.argv[2:])
        spawn_main(**{name: int(value) for name, value in arguments})
