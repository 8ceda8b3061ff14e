"""The C core of fastmp. Timeouts are in seconds; None waits for ever, zero or less tries once."""

from collections.abc import Callable, Iterable
from pickle import PickleBuffer
from typing import Any, ClassVar, Final, Self, SupportsIndex, final

from _typeshed import ReadableBuffer, WriteableBuffer
from typing_extensions import disjoint_base

SEM_VALUE_MAX: Final[int]

# ---- exceptions: their home, as users see it, is fastmp.context ------------------------------------

class ProcessError(Exception): ...
class BufferTooShort(ProcessError): ...
class TimeoutError(ProcessError): ...
class AuthenticationError(ProcessError): ...

# ---- processes --------------------------------------------------------------------------------

@final
class Child:
    """A child process, from fork() or expect() until it is reaped. `sentinel` is a descriptor that becomes
    readable when the child ends (a pidfd, or a pipe where the kernel refuses pidfds)."""

    pid: Final[int]
    sentinel: Final[int]
    passed: Final[int]
    """A descriptor that a new program has to inherit; -1 for none, and once it is born."""
    owner: Final[int]
    """What names it in the arena."""
    def born(self, pid: int, sentinel: int = -1, /) -> None:
        """The process that expect() was called for runs. With a sentinel, a descriptor that is owned from
        now on, another process reaps it."""
    def ended(self, exitcode: int, /) -> None:
        """The process that another one reaps has ended so."""
    def poll(self) -> int | None:
        """Reap without blocking: the exit code (-N for signal N), or None while the child runs.
        255 if somebody else has reaped it."""
    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, then reap: the exit code, or None if the timeout passed first."""
    def kill(self, signal: int, /) -> None:
        """Send a signal, unless the child has been reaped already."""
    def close(self) -> None:
        """Give the sentinel back."""

def fork(owner: int = 0, /) -> Child | None:
    """Fork as os.fork() does (audit event, at-fork hooks). The child gets None. With an owner it takes the
    place that expect() of another process got for it."""

def expect() -> Child:
    """A child that will be made otherwise. It has a place in the arena already, and what is pickled for it
    is held for it; the place is given back if the Child goes before it is born."""

def arena_fd() -> int:
    """The descriptor of the arena, for programs that are to attach to it."""

def attach(fd: int, owner: int, /) -> None:
    """Share the arena behind a descriptor, which is owned from now on, as the child that expect() was
    called for, or with a new place if owner is 0. RuntimeError if this process has an arena already."""

def unpickled() -> None:
    """In a new child: let go of what it was given and has no handle for."""

def leave() -> None:
    """Give up, in a child about to end, all that this process holds in the arena."""

def set_pickler(
    dumps: Callable[[Any], ReadableBuffer],
    dumps_apart: Callable[[Any], bytes | tuple[list[bytes], list[PickleBuffer]]],
    loads: Callable[[ReadableBuffer], Any],
    dup_fd: Callable[[int], Any],
    spawning: Callable[[], Any],
    /,
) -> None:
    """What turns objects into messages (in one piece, and in several) and back, what makes a descriptor
    picklable, and what tells which launcher this thread spawns a process with; reduction.py sets them."""

def set_current_process(current_process: Callable[[], Any], /) -> None:
    """What tells the process object of this process, whose name reprs show; process.py sets it."""

def set_typecodes(typecodes: dict[Any, str], place: Callable[[Any, Block], Any], /) -> None:
    """The ctypes types that are read and written in C, with their codes, and what makes a ctypes object on
    a block; sharedctypes.py sets them."""

def cpu_count() -> int:
    """Processors this process may use: affinity mask and control group, at least 1."""

def arena_info() -> dict[str, int]:
    """Figures of the arena: `blocks` in use, `bytes` in use, `objects`, `owners`."""

# ---- connections -------------------------------------------------------------------------------

@disjoint_base
class Connection:
    """One end of a stream of messages over a descriptor, which it owns."""

    def __init__(self, handle: SupportsIndex, readable: bool = True, writable: bool = True) -> None: ...
    _handle: int | None
    @property
    def closed(self) -> bool: ...
    @property
    def readable(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def send(self, obj: Any) -> None: ...
    def recv(self) -> Any: ...
    def send_bytes(self, buf: ReadableBuffer, offset: int = 0, size: int | None = None) -> None: ...
    def recv_bytes(self, maxlength: int | None = None) -> bytes: ...
    def recv_bytes_into(self, buf: WriteableBuffer, offset: int = 0) -> int: ...
    def poll(self, timeout: float | None = 0.0) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...

def socket_pair(duplex: bool, /) -> tuple[int, int]:
    """Two connected stream sockets. One-way: the first only reads, the second only writes."""

# ---- synchronisation ----------------------------------------------------------------------------

@disjoint_base
class Lock:
    def __init__(self, *, ctx: object = None) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def _is_mine(self) -> bool: ...
    def _count(self) -> int: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...

@disjoint_base
class RLock:
    def __init__(self, *, ctx: object = None) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def _is_mine(self) -> bool: ...
    def _count(self) -> int: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...

@disjoint_base
class Semaphore:
    def __init__(self, value: int = 1, *, ctx: object = None) -> None: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def get_value(self) -> int: ...
    def _maxvalue(self) -> int: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...

class BoundedSemaphore(Semaphore): ...

@disjoint_base
class SemLock:
    """A semaphore of the system, with a name, for libraries that build on it; nothing of ours does."""

    SEM_VALUE_MAX: ClassVar[int]
    handle: Final[int]
    kind: Final[int]
    maxvalue: Final[int]
    name: Final[str | None]
    def __new__(cls, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> Self:
        """Make one, under a name that is free: FileExistsError. `unlink` takes the name away at once."""
    @classmethod
    def _rebuild(cls, handle: int, kind: int, maxvalue: int, name: str | None, /) -> Self:
        """The semaphore of that name; without a name, that of the handle, which is this process's."""
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def _count(self) -> int: ...
    def _is_mine(self) -> bool: ...
    def _get_value(self) -> int: ...
    def _is_zero(self) -> bool: ...
    def _after_fork(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, exc_type: object = None, exc_value: object = None, exc_tb: object = None, /
    ) -> None: ...

def sem_unlink(name: str, /) -> None:
    """Take the name of a semaphore of the system away."""

@disjoint_base
class Condition:
    def __init__(self, lock: Lock | RLock | None = None, *, ctx: object = None) -> None: ...
    @property
    def acquire(self) -> Callable[..., bool]: ...
    @property
    def release(self) -> Callable[[], None]: ...
    @property
    def locked(self) -> Callable[[], bool]: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any: ...
    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...

@disjoint_base
class Event:
    def __init__(self, *, ctx: object = None) -> None: ...
    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...

@disjoint_base
class Barrier:
    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: object = None,
    ) -> None: ...
    @property
    def parties(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def broken(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def reset(self) -> None: ...
    def abort(self) -> None: ...

# ---- message queues -------------------------------------------------------------------------------

@disjoint_base
class MessageQueue:
    """The core of Queue, JoinableQueue and SimpleQueue. `maxsize` bounds the messages in it and
    `maxbytes` their size (one larger message may pass when it is empty); 0 is no bound."""

    def __init__(self, maxsize: int = 0, maxbytes: int = 0) -> None: ...
    @property
    def maxsize(self) -> int: ...
    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def put_bytes(self, buf: ReadableBuffer, block: bool = True, timeout: float | None = None) -> int:
        """Put a message as it is; returns its number, counted from 1."""
    def get_bytes(self, block: bool = True, timeout: float | None = None) -> bytes: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def full(self) -> bool: ...
    def task_done(self) -> None: ...
    def join(self) -> None: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def _ready(self, timeout: float | None = 0.0) -> bool:
        """Is there something to get, within the timeout?"""
    def _fileno(self) -> int:
        """A descriptor of this process, made when it is first asked for, which is readable while there is
        something to get. When others get as well it may be readable in vain, until this process looks."""
    def _shut(self, reader: bool, writer: bool, /) -> None:
        """This process gets no more, puts no more: OSError."""
    @property
    def _reader_closed(self) -> bool: ...
    @property
    def _writer_closed(self) -> bool: ...

# ---- pools ----------------------------------------------------------------------------------------

@final
class Board:
    """Tasks of a pool for up to `seats` workers, and their results. Made by the pool's process,
    inherited by its workers."""

    def __init__(self, seats: int) -> None: ...
    def put(
        self,
        task: object,
        entry: tuple[Any, Any, Any],
        dumps: Callable[[Any], ReadableBuffer] | None = None,
    ) -> int:
        """Send a task, pickled by `dumps` if that is given. When its result comes, `entry` = (mapping, key,
        owner) says where to. Returns the bytes of the tasks that no worker has taken."""
    def watch(self, entry: tuple[Any, Any, Any], /) -> None:
        """Where to put what a worker reports without having a task."""
    def collect(self, timeout: float | None = None) -> Any:
        """Wait for a result, set mapping[key] = (kind, value), return owner. None if the timeout passes
        first, at the end, and after a nudge. A value that cannot be unpickled is the exception, its kind
        is -1."""
    def nudge(self) -> None:
        """Make one call of collect() return."""
    broken_off: Final[list[Any]]
    def guard(self, function: Callable[..., Any], token: object, /, *args: Any) -> Any:
        """Return function(token, *args). If that raises, append the token to `broken_off` and ring."""
    def bury(self, pid: int, /) -> int | None:
        """Free the seat of a dead worker. Returns the number of the task it had, 0 if it had none; None
        if it never sat down."""
    def fail(self, number: int, kind: int, obj: object, /) -> None:
        """Add a result in the name of a worker who can't any more."""
    def listen(self) -> bool:
        """Let the next result ring the bell. False if there is a result already."""
    def stop_listening(self) -> None: ...
    def ring(self) -> None:
        """Ring the bell."""
    def silence(self) -> None:
        """Stop the bell."""
    def fileno(self) -> int:
        """The bell: a descriptor that is readable while it rings."""
    def close(self) -> None:
        """No more tasks come: workers leave when none is left."""
    def end(self) -> None:
        """Workers leave, results count no more, and nobody waits for them."""
    @property
    def load(self) -> int:
        """Bytes of the tasks that no worker has taken."""
    def sit(self) -> None:
        """Become one of the workers."""
    def take(self) -> Any:
        """Wait for the next task. None if there will be none. Raises what unpickling raises."""
    def report(self, kind: int, obj: object, /) -> None:
        """Send the result of the task that was taken last."""

# ---- shared memory ------------------------------------------------------------------------------------

@disjoint_base
class Block:
    """Zeroed shared memory of `size` bytes, with the buffer protocol."""

    def __init__(self, size: int) -> None: ...
    @property
    def size(self) -> int: ...
    def give(self, child: Child, /) -> tuple[int, int, int, int]:
        """Hold the block for a child made by expect(); the ticket that attach() takes there."""
    @classmethod
    def attach(cls, ticket: tuple[int, int, int, int], /) -> Self:
        """The block that was given to this process."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

@disjoint_base
class SynchronizedBase:
    """A ctypes object and the lock to use it under."""

    def __init__(self, obj: Any, lock: Any = None, ctx: object = None) -> None: ...
    @classmethod
    def _allocate(cls, ctype: Any, lock: Any, initial: Iterable[Any], /) -> Self:
        """On memory of its own. `ctype` has a typecode, or its items do; without a lock (None) the memory
        has one. `initial` are the arguments that `ctype` would be called with."""
    @property
    def _obj(self) -> Any: ...
    @property
    def _lock(self) -> Any: ...
    @property
    def acquire(self) -> Callable[..., bool]: ...
    @property
    def release(self) -> Callable[[], None]: ...
    def get_obj(self) -> Any: ...
    def get_lock(self) -> Any: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Synchronized(SynchronizedBase):
    value: Any

class SynchronizedArray(SynchronizedBase):
    def __len__(self) -> int: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> Any: ...
    def __setitem__(self, key: SupportsIndex | slice, value: Any, /) -> None: ...

class SynchronizedString(SynchronizedArray):
    value: bytes
    raw: bytes
