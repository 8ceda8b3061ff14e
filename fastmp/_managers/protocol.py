"""What goes over the connections between the server of a manager and its clients.

Tuples: (ident, method, args, kwds) out, (kind, result) back. `ident` names the object, None is the server
itself. The kinds: #RETURN, #ERROR (the exception), #PROXY (exposed methods and token of a new object),
#TRACEBACK and #UNSERIALIZABLE (a text). The standard library speaks the same. To a server of ours, kwds that
are empty are left out.
"""

from __future__ import annotations

import traceback

from .. import connection, reduction

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Address: TypeAlias = Any
    Message: TypeAlias = tuple[str, Any]  # kind and result

REMOTE_NOTE = "Traceback of the manager's process:\n"

listener_client = {
    "pickle": (connection.Listener, connection.Client),
    "xmlrpclib": (connection.XmlListener, connection.XmlClient),
}


class Token:
    """What names an object: its typeid, where its server is, and its ident there."""

    __slots__ = ("address", "id", "typeid")

    def __init__(self, typeid: str, address: Address, id: str) -> None:
        self.typeid, self.address, self.id = typeid, address, id

    def __getstate__(self) -> tuple[str, Address, str]:
        return self.typeid, self.address, self.id

    def __setstate__(self, state: tuple[str, Address, str]) -> None:
        self.typeid, self.address, self.id = state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


class RemoteError(Exception):
    """What went wrong in the manager's process; its text is the traceback."""

    def __str__(self) -> str:
        return f"\n{'-' * 75}\n{self.args[0]}{'-' * 75}"


def convert_to_error(kind: str, result: Any) -> BaseException:
    """The exception to raise for an answer that is not a result."""
    if kind == "#ERROR":
        return _with_cause(result)
    if kind in ("#TRACEBACK", "#UNSERIALIZABLE"):
        if not isinstance(result, str):
            raise TypeError(f"Result {result!r} (kind {kind!r}) type is {type(result)}, not str")
        return RemoteError(f"Unserializable message: {result}\n" if kind == "#UNSERIALIZABLE" else result)
    return ValueError(f"Unrecognized message type {kind!r}")


def dispatch(c: Any, id: str | None, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
    """Ask a question over a connection and return the answer, or raise what came instead."""
    c.send((id, methodname, args, kwds))
    return unwrap(*c.recv())


def unwrap(kind: str, result: Any) -> Any:
    """The result in an answer, if it is one; else what came instead is raised."""
    if kind == "#RETURN":
        return result
    try:
        raise convert_to_error(kind, result)
    finally:
        del result  # or the exception and this frame would hold each other, and whatever called us


class Unloadable(Exception):
    """A message that came, but is none; the text is the traceback."""


def receive(conn: Any) -> Any:
    """The next message, or Unloadable. EOFError or OSError only if the connection is at its end."""
    try:
        return conn.recv()
    except BaseException as e:
        if isinstance(e, (EOFError, OSError)) and conn.poll(0):
            raise  # else who sent the message waits for an answer, and it was loading it that raised
        raise Unloadable(traceback.format_exc()) from None


def error_message(error: Exception) -> Message:
    """An exception as it travels: with its traceback, which pickle would drop, as a note."""
    text = "".join(traceback.format_exception(error))
    note = REMOTE_NOTE + text
    try:
        error.add_note(note)
        try:
            copy = reduction.loads(reduction.dumps(error))
        finally:
            error.__notes__.remove(note)  # the same exception may be raised again
    except BaseException:
        return "#UNSERIALIZABLE", f"{traceback.format_exc()}\nThe error was:\n\n{text}"
    return "#ERROR", copy


def _with_cause(error: BaseException) -> BaseException:
    """An exception as it is raised here: the other side's traceback, if it came along, is the cause."""
    for note in getattr(error, "__notes__", ()):
        if note.startswith(REMOTE_NOTE):
            error.__notes__.remove(note)
            error.__cause__ = RemoteError(note.removeprefix(REMOTE_NOTE))
            break
    return error
