"""What may become of a task but a result."""

from __future__ import annotations

import signal
import traceback

from .._core import ProcessError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


class WorkerDied(ProcessError, RuntimeError):
    """The worker process that ran a task ended before the task did. The pool goes on."""

    def __init__(self, pid: int, exitcode: int, doing: str) -> None:
        super().__init__(pid, exitcode, doing)
        self.pid = pid
        self.exitcode = exitcode
        self.doing = doing

    def __str__(self) -> str:
        return f"worker process {self.pid} {_end_of_process(self.exitcode)} while it ran {self.doing}"


def _end_of_process(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


class PoolTerminated(ProcessError, RuntimeError):
    """The pool was terminated before the result came."""


class MaybeEncodingError(Exception):
    """A result cannot be pickled."""

    def __init__(self, exc: object, value: object) -> None:
        self.exc = _safe_repr(exc)
        self.value = _safe_repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_encoding_error, (type(self), self.exc, self.value)


def _rebuild_encoding_error(cls: type[MaybeEncodingError], exc: str, value: str) -> MaybeEncodingError:
    error = cls(None, None)
    error.exc, error.value = error.args = exc, value
    return error


class MaybeDecodingError(MaybeEncodingError):
    """A result cannot be unpickled."""

    def __str__(self) -> str:
        return f"Error receiving result: {self.value}. Reason: '{self.exc}'"


class RemoteTraceback(Exception):
    """The traceback of another process, as the cause of the exception that came from there."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return self.tb


class ExceptionWithTraceback:
    """An exception that takes its traceback along when it is pickled."""

    def __init__(self, exc: BaseException, tb: TracebackType | None) -> None:
        self.exc = exc
        self.tb = _quote_traceback(exc, tb)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """The exception, with a traceback from elsewhere as its cause."""
    exc.__cause__ = RemoteTraceback(tb)
    return exc


def _quote_traceback(exc: BaseException, tb: TracebackType | None) -> str:
    return '\n"""\n' + "".join(traceback.format_exception(type(exc), exc, tb)) + '"""'


def _safe_repr(obj: object) -> str:
    try:
        return repr(obj)
    except BaseException as e:
        return f"<{type(obj).__name__} object whose repr() raises {type(e).__name__}>"
