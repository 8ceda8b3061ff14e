"""Descriptors for processes that run already: a pickle holds a ticket, not the descriptor.

    process of the owner                                  process that loads the pickle
    DupFd(fd) keeps a copy under a key
    thread: sends the descriptor, closes the copy  <----  detach(): connects, shows the key

A thread that starts with the first ticket accepts; each client then has a thread of its own, so that one that
says nothing, or was stopped, is in nobody's way. Those are served who know the program's key (authkey). A
ticket is for one: it is void when it has been used, and when its owner has ended.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading

from . import _logging, _threads, connection, process, reduction
from ._at_once import at_once, holding
from ._core import AuthenticationError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Ticket: TypeAlias = tuple[connection.Address, str]  # where to go, and the key
    Offer: TypeAlias = tuple[Callable[[connection.Connection, int], object], Callable[[], object]]

__all__ = ["DupFd", "stop"]

BACKLOG = 128


class DupFd:
    """A copy of a descriptor, for the one process that will detach() it."""

    def __init__(self, fd: int) -> None:
        copies: list[int] = []  # one, until it is closed

        def close() -> None:
            while copies:
                os.close(copies.pop())

        try:
            at_once(copies.append, os.dup, fd)
            self._ticket = _resource_sharer.register(
                lambda conn, pid: reduction.send_handle(conn, copies[0], pid), close
            )
        except BaseException:
            close()
            raise

    def detach(self) -> int:
        """The descriptor, now this process's own."""
        fds: list[int] = []
        try:
            with _resource_sharer.get_connection(self._ticket) as conn:
                fds = [reduction.recv_handle(conn)]
            return fds[0]
        except BaseException:
            reduction.close(fds)
            raise


class _Sharer:
    """What this process has to give, and the thread that gives it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offers: dict[str, Offer] = {}
        self._listener: connection.Listener | None = None
        self._thread: threading.Thread | None = None

    def register(
        self, send: Callable[[connection.Connection, int], object], close: Callable[[], object]
    ) -> Ticket:
        """Offer something: the ticket for which `send(connection, pid)` is called, and `close()` after it."""
        key = secrets.token_hex(16)
        return holding(self._lock, self._add_offer, key, (send, close)), key

    def _add_offer(self, key: str, offer: Offer) -> connection.Address:
        listener = self._listener or self._start()
        self._offers[key] = offer
        return listener.address

    @staticmethod
    def get_connection(ticket: Ticket) -> connection.Connection:
        """The connection on which what the ticket is for comes."""
        address, key = ticket
        conn = connection.Client(address, authkey=bytes(process.current_process().authkey))
        conn.send((key, os.getpid()))
        return conn

    def stop(self, timeout: float | None = None) -> None:
        """End the thread and withdraw all offers. The next one starts it again."""
        holding(self._lock, self._stop, timeout)

    def _stop(self, timeout: float | None) -> None:
        listener, thread = self._listener, self._thread
        if listener is None or thread is None:
            return
        self._listener = None
        self._knock(listener, timeout)
        thread.join(timeout)
        if thread.is_alive():
            _logging.sub_warning("the thread that shares descriptors did not stop in %s seconds", timeout)
        listener.close()
        self._reset()

    def _start(self) -> connection.Listener:
        key = bytes(process.current_process().authkey)
        listener = self._listener = connection.Listener(authkey=key, backlog=BACKLOG)
        try:
            thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
            _threads.start(thread)
            self._thread = thread
        except BaseException:  # of a signal handler, and then the thread may run
            self._listener = None
            self._knock(listener, None)
            listener.close()
            raise
        return listener

    @staticmethod
    def _knock(listener: connection.Listener, timeout: float | None) -> None:
        """Wake the thread, which ends if it serves another listener than is in use."""
        with socket.socket(socket.AF_UNIX) as knock, contextlib.suppress(OSError):
            knock.settimeout(timeout)
            knock.connect(listener.address)

    def _serve(self, listener: connection.Listener) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for others
        while True:
            try:
                sock = listener.accept_socket()
            except Exception:  # mostly for want of descriptors
                if self._listener is not listener:
                    return
                _threads.pause()
                continue
            if self._listener is not listener:
                sock.close()
                return
            try:
                threading.Thread(target=self._serve_client, args=(listener, sock), daemon=True).start()
            except Exception:  # there are too many threads
                sock.close()

    def _serve_client(self, listener: connection.Listener, sock: socket.socket) -> None:
        try:
            with listener.receive(sock) as conn:
                self._give(conn)
        except (AuthenticationError, EOFError, OSError) as e:
            _logging.debug("a client was refused, or lost: %r", e)
        except Exception:
            if not process.is_exiting():
                sys.excepthook(*sys.exc_info())

    def _give(self, conn: connection.Connection) -> None:
        key, pid = conn.recv()
        offer = self._offers.pop(key, None)
        if offer is None:
            return  # the client sees the end of the connection
        send, close = offer
        try:
            send(conn, pid)
        finally:
            close()

    def _reset(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._listener = self._thread = None
        for _, close in self._offers.values():
            close()
        self._offers.clear()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._reset()  # the offers are the parent's


_resource_sharer = _Sharer()
stop = _resource_sharer.stop

os.register_at_fork(after_in_child=_resource_sharer._after_fork_in_child)
