"""The resource tracker's process: it lives until all that use it have ended, and removes what they left.

What it is told, and how, stands in `resource_tracker`. A name that is registered at the end was leaked, and
the tracker says so before it removes it; but of one whose maker had ended as it should it says nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import warnings

from ._core import sem_unlink
from .resource_tracker import _CLEANUP_FUNCS, _SIGNALS, _unlink_nothing

__all__ = ["serve"]

# No lock of ours has a name: semaphores are what libraries make, and what SemLock is for them.
_REMOVE = {**_CLEANUP_FUNCS, "semaphore": sem_unlink, "dummy": _unlink_nothing}


def serve(fd: int) -> None:
    """Serve until no process holds the other end of the pipe, then remove what was left."""
    for sig in _SIGNALS:
        signal.signal(sig, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for stream in (sys.stdin, sys.stdout):
        with contextlib.suppress(Exception):
            stream.close()
    names = _Names()
    failed = False
    with open(fd, "rb") as lines:
        for line in lines:
            try:
                names.obey(*_decode(line))
            except Exception:
                failed = True
                sys.excepthook(*sys.exc_info())
    leaked = names.remove()
    sys.exit(3 if failed else 1 if leaked else 0)


def _decode(line: bytes) -> tuple[str, str, str]:
    if line.startswith(b"{"):
        message = json.loads(line)
        name = os.fsdecode(base64.urlsafe_b64decode(message.get("base64_name", "")))
        return message["cmd"], name, message["rtype"]
    command, rest = line.strip().decode("ascii").split(":", 1)
    name, rtype = rest.rsplit(":", 1)
    return command, name, rtype


class _Names:
    """The names that are to be removed in the end, for each type."""

    def __init__(self) -> None:
        self._registered: dict[str, set[str]] = {rtype: set() for rtype in _REMOVE}
        self._left: dict[str, set[str]] = {rtype: set() for rtype in _REMOVE}  # by makers that ended well

    def obey(self, command: str, name: str, rtype: str) -> None:
        """Do what a line says."""
        if command == "PROBE":
            return
        if rtype not in _REMOVE:
            raise ValueError(
                f"Cannot register {name} for automatic cleanup: unknown resource type {rtype}. "
                f"Resource type should be one of the following: {list(_REMOVE)}"
            )
        if command == "REGISTER":
            self._registered[rtype].add(name)
            self._left[rtype].discard(name)
        elif command == "UNREGISTER":
            self._registered[rtype].discard(
                name
            )  # it may have been registered with another program's tracker
            self._left[rtype].discard(name)
        elif command == "LEAVE":
            if name in self._registered[rtype]:
                self._registered[rtype].remove(name)
                self._left[rtype].add(name)
        else:
            raise RuntimeError(f"unrecognized command {command!r}")

    def remove(self) -> bool:
        """Remove all of them; whether some had leaked."""
        for rtype in _REMOVE:
            leaked, left = self._registered[rtype], self._left[rtype]
            if leaked and rtype != "dummy":
                warnings.warn(
                    f"resource_tracker: There appear to be {len(leaked)} leaked {rtype} objects "
                    f"to clean up at shutdown: {leaked}",
                    stacklevel=1,
                )
            for name in leaked:
                try:
                    _REMOVE[rtype](name)
                except Exception as e:
                    warnings.warn(f"resource_tracker: {name!r}: {e}", stacklevel=1)
            for name in left:
                with contextlib.suppress(FileNotFoundError):  # somebody without a tracker has unlinked it
                    _REMOVE[rtype](name)
        return any(self._registered.values())
