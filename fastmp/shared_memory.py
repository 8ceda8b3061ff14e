"""Shared memory with a name, which any program of the same user can attach to, and a list in it.

A segment lives until somebody calls `unlink()`, or until the program that made it has ended, with all its
processes: then the resource tracker removes it. Only who made a segment registers it. Attaching registers
nothing, so a segment never goes because some other program that looked at it has ended (gh-82300). What the
tracker finds it calls leaked if the process that made it was killed; one that ends as it should leaves its
segments to the others of its family. If it had to start a tracker of its own it takes them off that: its
parent, whom it told the name, has another one.

Who says `track=True` or `track=False` is taken at his word. True registers a segment that is attached to,
too, and not to unlink it is a leak, however the process ends. False hides the segment from the tracker.

A `ShareableList` in its segment, all numbers of 8 bytes:

    count | count times: where, room, length, kind | values

`where` and `room` say where a value is and how large one may become there. `length` is what text and bytes
have of it, so zeros at their end are theirs.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import operator
import os
import secrets
import struct
import types
from _posixshmem import shm_open, shm_unlink  # type: ignore[import-not-found]

from . import process, resource_tracker
from ._finalize import Finalize

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, SupportsIndex, TypeAlias

    Item: TypeAlias = int | float | bool | str | bytes | None

__all__ = ["ShareableList", "SharedMemory"]

_USE_POSIX = True
_O_CREX = os.O_CREAT | os.O_EXCL
_SHM_SAFE_NAME_LENGTH = 14  # what every system takes
_SHM_NAME_PREFIX = "/psm_"


class _True(int):
    """True, if the caller did not say so."""

    def __repr__(self) -> str:
        return "True"


_UNSAID = _True(True)


def _make_filename() -> str:
    """A name that is probably free."""
    return _SHM_NAME_PREFIX + secrets.token_hex((_SHM_SAFE_NAME_LENGTH - len(_SHM_NAME_PREFIX)) // 2)


class SharedMemory:
    """A segment of shared memory: made under a new name with `create`, attached to without."""

    _name: str | None = None
    _fd = -1
    _mmap: mmap.mmap | None = None
    _buf: memoryview | None = None
    _size: int
    _flags = os.O_RDWR
    _mode = 0o600
    _prepend_leading_slash = True
    _track: bool | int = True
    _registered = False

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool | int = _UNSAID
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        self._track = track
        if create:
            self._flags = _O_CREX | os.O_RDWR
        self._open(name)
        try:
            if create:
                os.ftruncate(self._fd, size)
                os.posix_fallocate(self._fd, 0, size)  # a full /dev/shm is an error here, no SIGBUS later
            self._size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, self._size)
        except BaseException:
            self.close()
            if create:
                shm_unlink(self._name)
            raise
        self._buf = memoryview(self._mmap)
        if track and (create or track is not _UNSAID):
            self._registered = True
            _track(self._path, strictly=track is not _UNSAID)

    def _open(self, name: str | None) -> None:
        if name is not None:
            self._name = "/" + name
            if "\0" in name:
                raise ValueError("embedded null character")  # before 3.12 shm_open() stops there
            self._fd = shm_open(self._name, self._flags, mode=self._mode)
            return
        while True:
            self._name = _make_filename()
            try:
                self._fd = shm_open(self._name, self._flags, mode=self._mode)
                return
            except FileExistsError:
                continue

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def _path(self) -> str:
        assert self._name is not None
        return self._name

    @property
    def buf(self) -> memoryview | None:
        """The memory; None after close()."""
        return self._buf

    @property
    def name(self) -> str:
        """What others attach to."""
        return self._path.removeprefix("/") if self._prepend_leading_slash else self._path

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._size

    def close(self) -> None:
        """Give this process's access back. BufferError, and it stays open, while there are views of `buf`."""
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            self._close_mmap(self._mmap)
            self._mmap = None
        self._close_fd()

    def _close_mmap(self, memory: mmap.mmap) -> None:
        try:
            memory.close()
        except BufferError:
            self._buf = memoryview(memory)
            raise

    def _close_fd(self) -> None:
        if self._fd < 0:
            return
        if self._registered and os.fstat(self._fd).st_nlink == 0:
            _untrack(self._path)  # somebody has unlinked it, who may have another tracker
        os.close(self._fd)
        self._fd = -1

    def unlink(self) -> None:
        """Remove the name. The memory goes when nobody is attached any more."""
        if self._name is None:
            return
        shm_unlink(self._name)
        if self._track:
            _untrack(self._name)

    def _disown(self) -> None:
        """Another process is to remove it, however this one ends."""
        if self._registered:
            self._registered = False
            _untrack(self._path)
        self._track = False

    def __del__(self) -> None:
        try:
            self.close()
        except BufferError:
            self._close_fd()  # the memory goes with the last view of it


_left_in_the_end: dict[str, Finalize] = {}


def _track(name: str, strictly: bool) -> None:
    resource_tracker.register(name, "shared_memory")
    if not strictly:
        _left_in_the_end[name] = Finalize(None, _leave, args=(name,), exitpriority=0)


def _leave(name: str) -> None:
    if process.parent_process() is not None and resource_tracker.launched_here():
        _untrack(name)
    else:
        resource_tracker.leave(name, "shared_memory")


def _untrack(name: str) -> None:
    resource_tracker.unregister(name, "shared_memory")
    if finalizer := _left_in_the_end.pop(name, None):
        finalizer.cancel()


_COUNT = struct.Struct("q")
_ENTRY = struct.Struct("qqqq")  # where, room, length, kind
_ALIGNMENT = 8
_FORMATS: dict[type, str] = {
    int: "q",
    float: "d",
    bool: "xxxxxxx?",
    str: "s",
    bytes: "s",
    types.NoneType: "xxxxxx?x",
}
_TYPES = tuple(_FORMATS)  # a kind is a place in here
_KINDS = {item_type: kind for kind, item_type in enumerate(_TYPES)}


def _encode(value: Item) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else struct.pack(_FORMATS[type(value)], value)


def _decode(item_type: type, data: bytes) -> Item:
    if item_type is str:
        return data.decode()
    if item_type is bytes:
        return data
    value: Item = struct.unpack(_FORMATS[item_type], data)[0]
    return None if item_type is types.NoneType else value


def _room(item_type: type, length: int) -> int:
    """How much a value gets, at most a number's size more than it needs."""
    return length if _FORMATS[item_type] != "s" else length // _ALIGNMENT * _ALIGNMENT + _ALIGNMENT


class ShareableList:
    """A list in shared memory: its length is fixed, as is the room for each value."""

    shm: SharedMemory
    _count: int

    def __init__(self, sequence: Iterable[Item] | None = None, *, name: str | None = None) -> None:
        if sequence is None and name is not None:
            self.shm = SharedMemory(name)
            self._count = _COUNT.unpack_from(self._memory)[0]
            return
        kinds, values = [], []
        for value in () if sequence is None else sequence:
            kinds.append(_KINDS[type(value)])
            values.append(_encode(value))
        self._count = len(values)
        if isinstance(sequence, ShareableList):
            rooms = [sequence._read(i)[1] for i in range(self._count)]  # what was left for growth stays so
        else:
            rooms = [_room(_TYPES[kind], len(value)) for kind, value in zip(kinds, values, strict=True)]
        where = _COUNT.size + _ENTRY.size * self._count
        self.shm = SharedMemory(name, create=True, size=where + sum(rooms))
        _COUNT.pack_into(self._memory, 0, self._count)
        for i, (kind, value, room) in enumerate(zip(kinds, values, rooms, strict=True)):
            self._write(i, where, room, kind, value)
            where += room

    @property
    def _memory(self) -> memoryview:
        memory = self.shm.buf
        if memory is None:
            raise TypeError(f"{self.shm!r} is closed")
        return memory

    def _read(self, position: int) -> tuple[int, int, int, int]:
        entry: tuple[int, int, int, int] = _ENTRY.unpack_from(self._memory, self._entry_at(position))
        return entry

    def _write(self, position: int, where: int, room: int, kind: int, value: bytes) -> None:
        memory = self._memory
        memory[where : where + room] = value.ljust(room, b"\0")
        _ENTRY.pack_into(memory, self._entry_at(position), where, room, len(value), kind)

    @staticmethod
    def _entry_at(position: int) -> int:
        return _COUNT.size + _ENTRY.size * position

    def _checked(self, position: SupportsIndex, message: str) -> int:
        i = operator.index(position)
        if not -self._count <= i < self._count:
            raise IndexError(message)
        return i % self._count

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(self._count))

    def __getitem__(self, position: SupportsIndex) -> Any:
        where, _, length, kind = self._read(self._checked(position, "index out of range"))
        return _decode(_TYPES[kind], bytes(self._memory[where : where + length]))

    def __setitem__(self, position: SupportsIndex, value: Item) -> None:
        i = self._checked(position, "assignment index out of range")
        where, room, _, _ = self._read(i)
        kind, encoded = _KINDS[type(value)], _encode(value)
        if len(encoded) > room:
            raise ValueError("bytes/str item exceeds available storage")
        self._write(i, where, room, kind, encoded)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), name=self.shm.name), ()

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)}, name={self.shm.name!r})"

    def _get_packing_format(self, position: SupportsIndex) -> str:
        _, room, _, kind = self._read(self._checked(position, "Requested position out of range."))
        format = _FORMATS[_TYPES[kind]]
        return f"{room}s" if format == "s" else format

    @property
    def format(self) -> str:
        """How the values are stored, as `struct` would say it."""
        return "".join(map(self._get_packing_format, range(self._count)))

    def count(self, value: object) -> int:
        """How many values are equal to this one."""
        return list(self).count(value)

    def index(self, value: object) -> int:
        """The first place of this value; ValueError if it is not there."""
        with contextlib.suppress(ValueError):
            return list(self).index(value)
        raise ValueError(f"{value!r} not in this container")

    __class_getitem__ = classmethod(types.GenericAlias)  # type: ignore[var-annotated]
