"""Pipes and listeners between threads: a connection is two queues.

Objects arrive as they were sent, not as copies. A message is an object whichever way it was sent:
`send_bytes` takes anything, and `recv` gets it. Closing does nothing, so there is no end to be read.
"""

from __future__ import annotations

from queue import Queue

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self, TypeAlias

    Messages: TypeAlias = Queue[Any]

__all__ = ["Client", "Listener", "Pipe"]

families = [None]


class Connection:
    """One end of a pipe: what it sends goes into one queue, what it receives comes from the other."""

    def __init__(self, _in: Messages, _out: Messages) -> None:
        self._in = _in
        self._out = _out
        self.send = self.send_bytes = _out.put
        self.recv = self.recv_bytes = _in.get

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is a message, waiting for one until the timeout."""
        with self._in.not_empty:
            if timeout is None or timeout > 0:
                self._in.not_empty.wait_for(self._in._qsize, timeout)
            return self._in._qsize() > 0

    def close(self) -> None:
        """Nothing is held that could be given back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class Listener:
    """Where clients connect to; its address is the queue that they wait in."""

    def __init__(self, address: object = None, family: object = None, backlog: int = 1) -> None:
        self._waiting: Queue[tuple[Messages, Messages]] | None = Queue(backlog)

    def accept(self) -> Connection:
        """Wait for a client; the connection to it."""
        if self._waiting is None:
            raise OSError("Listener is closed")
        return Connection(*self._waiting.get())

    def close(self) -> None:
        """Accept no more."""
        self._waiting = None

    @property
    def address(self) -> Queue[tuple[Messages, Messages]] | None:
        """What clients connect to."""
        return self._waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def Client(address: Queue[tuple[Messages, Messages]]) -> Connection:
    """Connect to the listener that has this address; waits while its backlog is full."""
    incoming: Messages = Queue()
    outgoing: Messages = Queue()
    address.put((outgoing, incoming))
    return Connection(incoming, outgoing)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Two connected ends. Both send and receive, also if only one way was asked for."""
    one: Messages = Queue()
    other: Messages = Queue()
    return Connection(one, other), Connection(other, one)
