"""How objects become messages, and how descriptors get from one process to another.

`ForkingPickler` is a pickler with reducers of its own, which `register` adds to. What it consults is one
table, made of three that may change at any time: copyreg's, the standard library's if a program uses that
too, and ours, which wins. Ours is written through at once; the others are compared before each message,
which costs less than looking through all three for each object.

`dumps` is what every queue and pipe pays for, so it reuses picklers: making one and a file for it costs five
times as much as pickling a small message. An idle pickler waits in a list, and taking it off the list is
what makes it the taker's own: another thread, or a reducer that pickles in its turn, takes another one.
Methods, built-in ones too, and functools.partial need no reducer here: pickle knows how by itself.
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import _socket
import array
import contextlib
import copyreg
import functools
import os
import socket
import sys

import fastmp

from . import _core, _definitions, _spawning
from ._at_once import at_once

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import IO, Any, ClassVar, TypeAlias

    Reducer: TypeAlias = Callable[[Any], Any]
    Table: TypeAlias = dict[type, Reducer]

__all__ = [
    "HAVE_SEND_HANDLE",
    "AbstractReducer",
    "DupFd",
    "ForkingPickler",
    "dump",
    "dumps",
    "loads",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]

HAVE_SEND_HANDLE = True
MOST_FDS = 253  # in one packet
SCALARS = frozenset({type(None), bool, int, float, str, bytes})  # can't contain what a reducer is for
UNPICKLABLE = (_pickle.PicklingError, AttributeError, TypeError)  # what pickle raises then
APART_BYTES = 1 << 14  # a buffer of fewer is copied into the pickle
KEEP_BYTES = 1 << 16  # after a longer message its pickler is dropped: its memo may have grown as well

_own: Table = {}  # what register() was told
_merged: Table = {}  # what picklers consult: copyreg's, the standard library's, then _own
_seen_copyreg: Table = {}  # copies of the first two, as they are in _merged
_seen_standard: Table = {}

_modules = sys.modules
_this = _modules[__name__]
_STANDARD = "multiprocessing.reduction"  # only if the program has loaded it; it may also be this very module


def _merge() -> None:
    """Bring the table up to date with those that others own."""
    global _seen_copyreg, _seen_standard
    module = _modules.get(_STANDARD, _this)
    standard = {} if module is _this else module.ForkingPickler._extra_reducers
    if copyreg.dispatch_table == _seen_copyreg and standard == _seen_standard:
        return
    _seen_copyreg, _seen_standard = dict(copyreg.dispatch_table), dict(standard)
    fresh = {**_seen_copyreg, **_seen_standard, **_own}
    _merged.update(fresh)  # in place, and never empty: picklers of other threads are reading it
    for gone in _merged.keys() - fresh.keys():
        del _merged[gone]


class _Chunks(list[bytes]):
    """A file for a pickler: what it writes, in pieces (one, unless there are large strings in it), and the
    large buffers that it leaves to whoever sends the message."""

    __slots__ = ("buffers",)
    write = list.append

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[_pickle.PickleBuffer] = []

    def keep(self, buffer: _pickle.PickleBuffer) -> bool:
        """Whether the pickler is to write the buffer itself."""
        if buffer.raw().nbytes < APART_BYTES:
            return True
        self.buffers.append(buffer)
        return False


_idle: list[tuple[_pickle.Pickler, _Chunks]] = []
_idle_apart: list[tuple[_pickle.Pickler, _Chunks]] = []  # that leave large buffers


def _write(obj: Any, idle: list[tuple[_pickle.Pickler, _Chunks]]) -> bytes | _Chunks:
    """The pickle of an object: bytes if it is short, else its pieces."""
    if copyreg.dispatch_table != _seen_copyreg or _modules.get(_STANDARD, _this) is not _this:
        _merge()
    try:
        pickler, chunks = idle.pop()
    except IndexError:
        chunks = _Chunks()
        apart = idle is _idle_apart
        pickler = (
            _pickle.Pickler(chunks, 5, buffer_callback=chunks.keep) if apart else _pickle.Pickler(chunks)
        )
        pickler.dispatch_table = _merged
    pickler.dump(obj)  # one that failed is not used again
    if len(chunks) != 1 or len(chunks[0]) > KEEP_BYTES or chunks.buffers:
        return chunks
    message = chunks.pop()
    pickler.clear_memo()
    idle.append((pickler, chunks))
    return message


def dumps(obj: Any) -> bytes:
    """The pickle of an object, by way of the registered reducers."""
    if type(obj) in SCALARS:
        return _pickle.dumps(obj)
    message = _write(obj, _idle)
    return message if isinstance(message, bytes) else b"".join(message)


def dumps_apart(obj: Any) -> bytes | tuple[list[bytes], list[_pickle.PickleBuffer]]:
    """The same for a message in shared memory: if it is long, in pieces that need not be put together before,
    and with large buffers beside it (pickle protocol 5)."""
    message = _write(obj, _idle_apart)
    return message if isinstance(message, bytes) else (message, message.buffers)


loads = _pickle.loads


def dumps_for_child(obj: Any) -> bytes:
    """The pickle of an argument of a process that is being spawned: by reference, or else by value."""
    fds = _spawning.get_spawning_popen()._fds
    count = len(fds)
    try:
        pickled = dumps(obj)
    except UNPICKLABLE as e:
        del fds[count:]
        try:
            return fastmp._by_value.dumps(obj, _known_to_child())
        except Exception as reason:
            raise e from reason
    if _definitions.MAIN.encode() not in pickled or fastmp.spawn.main_is_found():
        return pickled
    del fds[count:]  # it refers, or may refer, to what the child won't find
    return fastmp._by_value.dumps(obj, _known_to_child())


def _known_to_child() -> _definitions.Names:
    """What a child finds in the main module."""
    return _definitions.of_main() if fastmp.spawn.main_is_found() else {}


class ForkingPickler(_pickle.Pickler):
    """A pickler that knows the registered reducers."""

    _extra_reducers: ClassVar[Table] = _own

    def __init__(self, file: IO[bytes], *args: Any, **kwargs: Any) -> None:
        super().__init__(file, *args, **kwargs)
        _merge()
        self.dispatch_table = dict(_merged)

    @classmethod
    def register(cls, type: type, reduce: Reducer) -> None:
        """Pickle objects of exactly this type by what `reduce(obj)` returns, from now on."""
        _own[type] = reduce
        _merged[type] = reduce

    @classmethod
    def dumps(cls, obj: Any, protocol: int | None = None) -> memoryview:
        """The pickle of an object."""
        if cls is ForkingPickler and protocol is None:
            return memoryview(dumps(obj))
        chunks = _Chunks()
        cls(chunks, protocol).dump(obj)  # type: ignore[arg-type]  # a pickler needs no more than write()
        return memoryview(b"".join(chunks))

    loads = staticmethod(loads)


register = ForkingPickler.register


def dump(obj: Any, file: IO[bytes], protocol: int | None = None) -> None:
    """Write the pickle of an object to a file."""
    ForkingPickler(file, protocol).dump(obj)


def sendfds(sock: socket.socket, fds: Sequence[int]) -> None:
    """Send descriptors over a Unix socket. The one byte beside them is their number modulo 256."""
    socket.send_fds(sock, [bytes([len(fds) % 256])], fds)


# What is received is the caller's as soon as it is returned, and closed if a signal handler raises before.


def recvfds(sock: socket.socket, size: int) -> list[int]:
    """Receive `size` descriptors that sendfds() sent. They are not inherited by programs executed later."""
    byte, fds = receive(sock, 1, size)
    try:
        if not byte and not fds:
            raise EOFError
        if len(fds) != size or not byte or byte[0] != size % 256:
            raise RuntimeError(f"Invalid data received: {len(fds)} descriptors, {size} were expected")
        return fds
    except BaseException:
        close(fds)
        raise


def receive(sock: socket.socket, size: int, most_fds: int) -> tuple[bytes, list[int]]:
    """Bytes and the descriptors that come with them, which are not inherited by programs executed later."""
    packets: list[tuple[Any, ...]] = []
    try:
        at_once(packets.append, sock.recvmsg, size, room_for(most_fds), socket.MSG_CMSG_CLOEXEC)
        return unpack(packets[0])
    except BaseException:
        for packet in packets:
            close(unpack(packet)[1])
        raise


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def room_for(count: int) -> int:
    """What so many descriptors take in a packet."""
    return socket.CMSG_SPACE(count * array.array("i").itemsize)


def unpack(packet: tuple[Any, ...]) -> tuple[bytes, list[int]]:
    """Bytes and descriptors of what recvmsg() received."""
    fds = array.array("i")
    data, messages, _, _ = packet
    for level, kind, content in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Send a descriptor over a connection made of a Unix socket."""
    with contextlib.closing(_socket_of(conn)) as sock:
        sendfds(sock, [handle])
    if isinstance(conn, _core.Connection):
        conn._interpose()


def recv_handle(conn: Any) -> int:
    """Receive a descriptor that send_handle() sent."""
    if isinstance(conn, _core.Connection):
        conn._uncover()
    fds: list[int] = []
    try:
        with contextlib.closing(_socket_of(conn)) as sock:
            fds = recvfds(sock, 1)
        return fds[0]
    except BaseException:
        close(fds)
        raise


def _socket_of(conn: Any) -> Any:
    make = functools.partial(_socket.socket, socket.AF_UNIX, socket.SOCK_STREAM, 0)
    return at_once(make, os.dup, conn.fileno())


def DupFd(fd: int) -> Any:
    """A picklable stand-in for a descriptor: its detach() gives the one that the spawned child has. A
    process that runs already fetches it from this one."""
    popen = _spawning.get_spawning_popen()
    if popen is None:
        return fastmp.resource_sharer.DupFd(fd)  # loaded by the first who wants one
    return popen.DupFd(popen.duplicate_for_child(fd))


def _reduce_socket(sock: socket.socket) -> tuple[Any, ...]:
    return _rebuild_socket, (DupFd(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(handle: Any, family: int, kind: int, proto: int) -> socket.socket:
    return socket.socket(family, kind, proto, fileno=handle.detach())


class AbstractReducer:
    """The names of this module as attributes: the base of a replacement for it (`context.reducer`)."""

    ForkingPickler = ForkingPickler
    HAVE_SEND_HANDLE = HAVE_SEND_HANDLE
    register = staticmethod(register)
    dump = staticmethod(dump)
    send_handle = staticmethod(send_handle)
    recv_handle = staticmethod(recv_handle)
    sendfds = staticmethod(sendfds)
    recvfds = staticmethod(recvfds)
    DupFd = staticmethod(DupFd)
    _reduce_socket = staticmethod(_reduce_socket)
    _rebuild_socket = staticmethod(_rebuild_socket)

    def __init__(self, *args: Any) -> None:
        register(socket.socket, _reduce_socket)


register(socket.socket, _reduce_socket)
_core.set_pickler(dumps, dumps_apart, loads, DupFd, _spawning.get_spawning_popen)
