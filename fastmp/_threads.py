"""What the package's own threads owe to those who wait for them. A leaf: imports nothing of fastmp."""

from __future__ import annotations

import _thread
import sys
import threading
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["insist", "pause", "report", "start"]

RETRY_SECONDS = 0.05  # after what failed for want of memory, descriptors or threads


def start(thread: threading.Thread) -> None:
    """thread.start(), in another thread: no signal handler comes there, which could raise in the middle and
    leave threading's own lock taken. If one raises here, the thread may begin later."""
    errors: list[BaseException] = []
    begun = _thread.allocate_lock()
    begun.acquire()

    def begin() -> None:
        try:
            thread.start()
        except BaseException as e:
            errors.append(e)
        finally:
            begun.release()

    _thread.start_new_thread(begin, ())
    begun.acquire()
    if errors:
        raise errors.pop()


def insist(function: Callable[..., object], *args: Any) -> None:
    """Call what others wait for, again and again while there is no memory for it."""
    while True:
        try:
            function(*args)
            return
        except MemoryError:
            pause()


def pause() -> None:
    """Wait until perhaps somebody has given something back."""
    try:
        time.sleep(RETRY_SECONDS)
    except MemoryError:
        return


def report() -> None:
    """An exception has nobody to go to but the threads' hook, which may be the user's, and raise, too."""
    try:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())
        except BaseException:
            return
