"""Which interpreter runs the processes that are not forked."""

import os
import sys

__all__ = ["get_executable", "set_executable"]

_executable: str | bytes | None = sys.executable


def get_executable() -> str | bytes | None:
    """The path of the interpreter."""
    return _executable


def set_executable(executable: str | bytes | os.PathLike[str] | None) -> None:
    """Set the path of the interpreter."""
    global _executable
    _executable = None if executable is None else os.fsencode(executable)
