"""The life of a worker: take a task, run it, send the result."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.py makes enums, in copies of a dozen pages each time
import contextlib
import functools
import io
import itertools
import sys
import threading

from .. import _core, _logging
from ..reduction import dumps
from .classic import ClassicSeat
from .errors import MaybeEncodingError, _quote_traceback
from .tasks import CALL, EACH, ERROR, RAISED_HERE, STAR, VALUE

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

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
    board = inqueue if inqueue is outqueue else ClassicSeat(inqueue, outqueue)
    if threading.current_thread() is threading.main_thread():
        global _seat
        _seat = board
        _interrupt_only_tasks()
    failed = functools.partial(_failure, wrap=wrap_exception)
    refused = functools.partial(_refusal, wrap=wrap_exception)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as e:
            board.fail(*failed(e))
            return
    board.sit()
    server = board if isinstance(board, _core.Board) else _Server(board)
    if server.serve(_run, failed, refused, maxtasks):
        _logging.debug("worker exiting after %s tasks", maxtasks)


def _begin(mask: set[int], *args: Any) -> None:
    """A worker's first step: it was started with SIGINT held back, so that nothing interrupts the start."""
    _interrupt_only_tasks()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    worker(*args)


class _Server:
    """Board.serve for the other boards."""

    def __init__(self, board: Any) -> None:
        self.board = board

    def serve(self, run: Any, failed: Any, refused: Any, most: int | None) -> bool:
        return all(self._serve_one(run, failed, refused) for _ in _times(most))

    def _serve_one(self, run: Any, failed: Any, refused: Any) -> bool:
        board = self.board
        try:
            task = board.take()
            if task is None:
                return False
            kind, value = VALUE, None
            board.runs = True
            value = run(*task)
            board.runs = False
        except BaseException as e:
            board.runs = False
            kind, value = failed(e)
        if type(sys.stdout) is io.TextIOWrapper:
            _flush(sys.stdout)
        try:
            board.report(kind, value)
        except BaseException as e:
            board.report(*refused(e, value))
        return True


def _times(most: int | None) -> Iterable[object]:
    return itertools.repeat(None) if most is None else range(most)


def _run(how: int, func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    if how == CALL:
        return func(*args, **kwds) if kwds else func(*args)
    if how == EACH:
        return [func(x) for x in args]  # map() would take a StopIteration for the end
    if how == STAR:
        return [func(*x) for x in args]
    return func(args)


def _flush(stream: io.TextIOWrapper) -> None:
    """A pool is mostly terminated, so what a task printed is shown with its result, or never."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def _failure(e: BaseException, wrap: bool) -> Item:
    """What to report; without `wrap` the exception itself, for it stays in this process."""
    return (ERROR, _describe(e)) if wrap else (RAISED_HERE, e)


def _refusal(e: BaseException, value: object, wrap: bool) -> Item:
    """What to report instead of a value that could not be sent."""
    return _failure(MaybeEncodingError(e, value), wrap)


def _describe(e: BaseException) -> tuple[bytes, str]:
    """An exception for sending: pickled by itself, so that the traceback arrives even if the exception
    cannot be unpickled."""
    tb = e.__traceback__
    while tb is not None and tb.tb_frame.f_code in _OWN_CODE:
        tb = tb.tb_next
    text = _quote_traceback(e, tb)
    try:
        return dumps(e), text
    except BaseException as reason:
        return dumps(MaybeEncodingError(reason, e)), text


_OWN_CODE = frozenset(function.__code__ for function in (_Server._serve_one, _run, worker))

_seat: Any = None  # in a worker process: its board


def _interrupt(signum: int, frame: FrameType | None) -> None:
    if _seat is not None and _seat.runs:
        _seat.runs = False  # once for each task
        raise KeyboardInterrupt


def _interrupt_only_tasks() -> None:
    """Ctrl-C reaches all processes at the terminal, or in a notebook. It ends tasks, not workers; who waits
    for the pool decides what becomes of that. A handler that the program has set stays."""
    if (
        threading.current_thread() is threading.main_thread()
        and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    ):
        _signal.signal(_signal.SIGINT, _interrupt)
