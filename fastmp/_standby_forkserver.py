"""Processes of the start method `forkserver` that are started ahead (_standby.py).

The server forks them and hands them over: the line on which the client orders, tells to begin and hears the
exit code as with any child, and the sentinel. For that a client keeps a connection to the server, its stock.
They have rehearsed their life, so an order finds them with pages of their own.

    client                                          server
    the same as for a child; the request is its
    own sentinel                                ->
                                                <-  0
    how many are to be forked                   ->  forks, between other requests
                                                <-  for each: pid, with line and sentinel; or -errno

So the server has nothing to do with a start, only with the end of the child, which it reaps. A conversation
that breaks off is begun anew, with other processes.
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import contextlib
import os
import socket

from . import _core, _standby, forkserver, reduction
from ._at_once import at_once, locked
from ._launch import forkserver as launcher

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .connection import Connection

__all__ = ["set_standby"]

MOST_OWED = 64  # that many packets with descriptors find room in a socket


class _Ahead(_standby.Ahead):
    """A child of the server that waits."""

    def tell(self, ticket: tuple[int, ...], fds: Sequence[int]) -> bool:
        blocked = list(_signal.pthread_sigmask(_signal.SIG_BLOCK, []))
        order = _pickle.dumps((self.child.owner, ticket, blocked))
        return len(fds) < reduction.MOST_FDS and _forked.send(self.line, order, fds)

    def dismiss(self) -> None:
        super().dismiss()
        self.child.ended(0)  # its place in the arena is given up: nobody waits for this child
        self.child.close()


class _Standby(_standby.Standby):
    def __init__(self, launcher: Any) -> None:
        super().__init__(launcher)
        self._stock: socket.socket | None = None
        self._made_in: tuple[Any, ...] = ()  # the circumstances of those that it has
        self._owed = 0
        self._own: list[int] = []  # this process's sentinel, for its children
        self._life: Connection | None = None  # where there are no pidfds: open until it ends

    @locked("_lock")
    def send(self, line: socket.socket, order: bytes, fds: Sequence[int]) -> bool:
        """With this process's sentinel; False if it has none, as nothing is to be ahead any more."""
        if self._own:
            socket.send_fds(line, [order], [*self._own, *fds])
        return bool(self._own)

    @locked("_lock")
    def _change(self, count: int) -> None:
        super()._change(count)
        if not count:
            self._hang_up()
            self._close_own()

    def _circumstances(self) -> tuple[Any, ...]:
        """What the server looks at before it answers, and which server that would be."""
        return os.geteuid(), forkserver.get_address()

    def _fill(self) -> None:
        missing = min(self._count - self._count_all(), MOST_OWED - self._owed)
        if missing > 0:
            self._ask(missing)

    def _ask(self, count: int) -> None:
        try:
            stock = self._open()
            stock.send(forkserver.pack_number(count))
            self._owed += count
        except BaseException:
            self._hang_up()
            raise

    def _open(self) -> socket.socket:
        """The connection to the server that runs."""
        forkserver.ensure_running()
        if self._stock is None or self._made_in != self._circumstances():
            self._hang_up()
            if not self._own:
                self._life = launcher.open_own_sentinel(self._own)
            self._made_in = self._circumstances()
            self._stock = forkserver.open_stock(self._own)
        return self._stock

    def _hang_up(self) -> None:
        self._close_stock()
        self._owed = 0
        while self._waiting:
            self._dismiss(self._waiting.pop())

    def _close_stock(self) -> None:
        if self._stock is not None:
            self._stock.close()
            self._stock = None

    def _close_own(self) -> None:
        while self._own:
            at_once(os.close, self._own.pop)
        self._life = None

    @locked("_lock")
    def _await_ready(self) -> None:
        with contextlib.suppress(ConnectionError, EOFError):  # the server has just died
            while len(self._waiting) < self._count:
                self._fill()
                self._receive()

    def _collect(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while self._owed and not self._waiting:
                self._receive(socket.MSG_DONTWAIT)

    def _count_all(self) -> int:
        return len(self._waiting) + self._owed

    def _receive(self, flags: int = 0) -> None:
        """One that the server has forked. BlockingIOError if there is none yet, OSError if it could not."""
        assert self._stock is not None
        child = _core.expect()
        packets: list[tuple[Any, ...]] = []
        lines: list[Any] = []
        try:
            pid = forkserver.receive_pid(self._stock, 2, packets, flags)
            self._owed -= 1
            if pid > 0:
                line, sentinel = reduction.unpack(packets[0])[1]
                at_once(lines.append, socket.SocketType, socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, line)
                child.born(pid, sentinel)
                self._waiting.append(_Ahead(child, lines[0], self._made_in))
        except BlockingIOError:
            raise
        except BaseException:
            for fd in reduction.unpack(packets[0])[1][len(lines) + (child.pid > 0) :] if packets else ():
                os.close(fd)
            if child.pid:
                child.ended(0)
            self._hang_up()
            raise
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))

    def _after_fork_in_child(self) -> None:
        self._close_stock()
        self._close_own()
        super()._after_fork_in_child()


def set_standby(count: int, wait: bool) -> None:
    """Keep so many started ahead."""
    _forked.set(count, wait)


_forked = _Standby(launcher)
os.register_at_fork(after_in_child=_forked._after_fork_in_child)
