"""Tasks and results, as they travel over the board: what is asked for, function, arguments, keywords there;
(kind, value) back. The C core knows these numbers, too (board_type.h, job_type.h)."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Item: TypeAlias = tuple[int, Any]  # a kind and a value, as they come from a worker
    Task: TypeAlias = tuple[int, Any, Any, Any]

# Kinds of results.
UNREADABLE = -1  # made where it is collected: the exception that unpickling raised
VALUE = 0
ERROR = 1  # (pickled exception, traceback as text)
DIED = 2  # (pid, exit code)
RAISED_HERE = 3  # the exception, which never was in another process

# What a task asks for.
CALL = 0  # func(*args, **kwds)
EACH = 1  # func(x) for x in args
STAR = 2  # func(*x) for x in args
ONE = 3  # func(args)
