"""The life of a worker: take a task, run it, send the result."""

from __future__ import annotations

import contextlib
import io
import itertools
import signal
import sys
import threading

from .. import _logging
from ..reduction import dumps
from .classic import ClassicSeat
from .errors import MaybeEncodingError, _quote_traceback
from .tasks import CALL, EACH, ERROR, RAISED_HERE, VALUE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

    from .. import _core
    from .tasks import Item


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """The life of a worker: take a task, run it, send the result. Ends when there will be no more, or after
    `maxtasks`."""
    if maxtasks is not None and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError(f"Maxtasks {maxtasks!r} is not valid")
    _interrupt_only_tasks()
    board: _core.Board | ClassicSeat
    board = inqueue if inqueue is outqueue else ClassicSeat(inqueue, outqueue)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as e:
            board.fail(0, *_failure(e, wrap_exception))
            return
    board.sit()
    for _ in itertools.repeat(None) if maxtasks is None else range(maxtasks):
        if not _serve(board, wrap_exception):
            return
    _logging.debug("worker exiting after %s tasks", maxtasks)


def _begin(mask: set[signal.Signals], *args: Any) -> None:
    """A worker's first step: it was started with SIGINT held back, so that nothing interrupts the start."""
    _interrupt_only_tasks()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    worker(*args)


def _serve(board: _core.Board | ClassicSeat, wrap_exception: bool) -> bool:
    """One task. False if there is none and will be none."""
    global _task_runs
    try:
        task = board.take()
        if task is None:
            return False
        kind, value = VALUE, None
        _task_runs = True
        value = _run(*task)
        _task_runs = False
    except BaseException as e:
        _task_runs = False
        kind, value = _failure(e, wrap_exception)
    if type(sys.stdout) is io.TextIOWrapper:
        _flush(sys.stdout)
    try:
        board.report(kind, value)
    except BaseException as e:
        board.report(*_failure(MaybeEncodingError(e, value), wrap_exception))
    return True


def _run(how: int, func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    if how == CALL:
        return func(*args, **kwds)
    if how == EACH:
        return [func(x) for x in args]  # map() would take a StopIteration for the end
    return [func(*x) for x in args]


def _flush(stream: io.TextIOWrapper) -> None:
    """A pool is mostly terminated, so what a task printed is shown with its result, or never."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def _failure(e: BaseException, wrap: bool) -> Item:
    """What to report; without `wrap` the exception itself, for it stays in this process."""
    return (ERROR, _describe(e)) if wrap else (RAISED_HERE, e)


def _describe(e: BaseException) -> tuple[bytes, str]:
    """An exception for sending: pickled by itself, so that the traceback arrives even if the exception
    cannot be unpickled."""
    tb = e.__traceback__
    while tb is not None and tb.tb_frame.f_code in _OWN_CODE:
        tb = tb.tb_next
    text = _quote_traceback(e, tb)
    try:
        return dumps(e), text
    except Exception as reason:
        return dumps(MaybeEncodingError(reason, e)), text


_OWN_CODE = frozenset(function.__code__ for function in (_serve, _run, worker))

_task_runs = False  # in a worker: a task that Ctrl-C may interrupt is running


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _task_runs
    if _task_runs:
        _task_runs = False  # once for each task
        raise KeyboardInterrupt


def _interrupt_only_tasks() -> None:
    """Ctrl-C reaches all processes at the terminal, or in a notebook. It ends tasks, not workers; who waits
    for the pool decides what becomes of that. A handler that the program has set stays."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _interrupt)
