"""python -m fastmp: run a program in which `multiprocessing` means fastmp, here and in its children.

What the program sees of itself (sys.argv, sys.path, `__main__`, its tracebacks, its exit status) is what
it would see without `-m fastmp`. So it does not run in this module: `__main__` is a fresh one by then.
"""

from __future__ import annotations

import builtins
import linecache
import os
import pkgutil
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import ModuleType

from ._install import install

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any, NoReturn

__all__ = ["main"]

USAGE = """\
usage: python -m fastmp [-h] [-m mod | -c cmd | file | -] [arg] ...

Run a Python program in which `import multiprocessing` means fastmp, in its processes too.

-m mod   the program is a module or a package, as with python -m
-c cmd   the program is this text
file     the program is in a file, or in the __main__.py of a folder or zip file
-        the program is read from standard input
arg ...  the program's arguments, in its sys.argv[1:]
"""


def main() -> None:
    if len(sys.argv) < 2:
        refuse("what shall be run?")
    option, args = sys.argv[1], sys.argv[2:]
    if option in ("-h", "--help"):
        print(USAGE, end="")
    elif option[:2] in ("-m", "-c"):
        text, args = (option[2:], args) if option[2:] else (next_of(args, option), args[1:])
        run_module(text, args) if option[1] == "m" else run_text(text, args)
    elif option == "-":
        run_input(args)
    elif option == "--":
        run_path(next_of(args, option), args[1:])
    elif option.startswith("-"):
        refuse(f"unknown option {option}")
    else:
        run_path(option, args)


def next_of(args: list[str], option: str) -> str:
    return args[0] if args else refuse(f"argument expected for {option}")


def refuse(complaint: str) -> NoReturn:
    sys.stderr.write(f"{complaint}\n{USAGE}")
    sys.exit(2)


# ---- the kinds of programs -------------------------------------------------------------------------------


def run_module(name: str, args: list[str]) -> None:
    become_main()
    sys.argv = ["-m", *args]  # until the module is found
    run(runpy._run_module_as_main, name)  # type: ignore[attr-defined]


def run_text(text: str, args: list[str]) -> None:
    sys.argv = ["-c", *args]
    put_first_on_path("")
    module = become_main()
    if sys.version_info >= (3, 13):  # since then tracebacks show its lines
        linecache.cache["<string>"] = (len(text), None, text.splitlines(True), "<string>")
    run(lambda: exec(compiled(text, "<string>"), vars(module)))


def run_input(args: list[str]) -> None:
    sys.argv = ["-", *args]
    put_first_on_path("")
    module = become_main(__file__="<stdin>")
    run(lambda: exec(compiled(sys.stdin.buffer.read(), "<stdin>"), vars(module)))


def run_path(path: str, args: list[str]) -> None:
    sys.argv = [path, *args]
    file = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(file) is not None:  # a folder or a zip file
        put_first_on_path(file, even_if_safe=True)
        become_main()
        run(runpy._run_module_as_main, "__main__", False)  # type: ignore[attr-defined]
        return
    loader = (SourcelessFileLoader if file.endswith(".pyc") else SourceFileLoader)("__main__", file)
    put_first_on_path(os.path.dirname(os.path.realpath(file)))
    module = become_main(__file__=file, __loader__=loader)
    run(lambda: exec(code_of(loader, file), vars(module)))


def code_of(loader: SourceFileLoader | SourcelessFileLoader, file: str) -> CodeType:
    if isinstance(loader, SourcelessFileLoader):
        compiled_before = loader.get_code("__main__")
        assert compiled_before is not None, "a file of code has code"
        return compiled_before
    try:
        source = loader.get_data(file)
    except OSError as error:
        sys.stderr.write(
            f"{sys.executable}: can't open file {file!r}: [Errno {error.errno}] {error.strerror}\n"
        )
        sys.exit(2)
    return compiled(source, file)


def compiled(source: str | bytes, name: str) -> CodeType:
    code: CodeType = compile(source, name, "exec", dont_inherit=True)
    return code


# ---- the program's surroundings --------------------------------------------------------------------------


def put_first_on_path(entry: str, even_if_safe: bool = False) -> None:
    """What `python -m` has put first on sys.path, the current folder, is not what this program gets."""
    if not sys.flags.safe_path:
        sys.path[0] = entry
    elif even_if_safe:
        sys.path.insert(0, entry)


def become_main(**known: Any) -> ModuleType:
    """The program's `__main__`, with what the interpreter puts into it."""
    module = ModuleType("__main__")
    names = vars(module)
    names.update(__builtins__=builtins, __loader__=BuiltinImporter)
    if "__annotations__" in globals():  # until 3.13
        names["__annotations__"] = {}
    names.update(known)
    if "__cached__" in globals() and "__file__" in known:  # until 3.14
        names["__cached__"] = None
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return module


def run(program: Callable[..., object], *args: object) -> None:
    """Run it. If it fails, the traceback that is shown begins with the program's own frames."""
    install()
    try:
        program(*args)
    except SystemExit:
        raise
    except BaseException:
        show = sys.excepthook

        def show_theirs(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            sys.excepthook = show
            theirs = beyond_this_module(trace)
            show(kind, error.with_traceback(theirs), theirs)

        sys.excepthook = show_theirs
        raise


def beyond_this_module(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_globals is not globals():
        trace = trace.tb_next  # what ran this module
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    main()
