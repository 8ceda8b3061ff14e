"""The C core of fastmp. Timeouts are in seconds; None waits for ever, zero or less tries once."""

from collections.abc import Callable, Iterable, Iterator
from pickle import PickleBuffer
from typing import Any, ClassVar, Final, NoReturn, Self, SupportsIndex, final

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

def fork(
    owner: int = 0,
    live: Callable[..., NoReturn] | None = None,
    args: tuple[object, ...] = (),
    holder: object = None,
    /,
) -> Child | None:
    """Fork as os.fork() does (audit event, at-fork hooks). The child gets None. With an owner it takes the
    place that expect() of another process got for it. With `live` the child calls that, and ends: SIGINT is
    blocked until let_interrupts_in(); other threads are warned of, where os.fork() does so. The Child becomes
    `holder._child` before a signal handler can raise."""

def is_forking() -> bool:
    """In a hook of os.register_at_fork(): is it fork() of this module that runs it?"""

def expect() -> Child:
    """A child that will be made otherwise. It has a place in the arena already, and what is pickled for it
    is held for it; the place is given back if the Child goes before it is born."""

def arena_fd() -> int:
    """The descriptor of the arena, for programs that are to attach to it."""

def attach(fd: int, owner: int, /) -> None:
    """Share the arena behind a descriptor, which is owned from now on, as the child that expect() was
    called for, or with a new place if owner is 0. RuntimeError if this process has an arena already."""

def become(owner: int, /) -> None:
    """In a process that was made ahead and has its own place: be the child that expect() was called for. What
    it holds, it keeps."""

def unpickled() -> None:
    """In a new child: let go of what it was given and has no handle for."""

def hold_interrupts() -> None:
    """In a new child, where SIGINT is blocked: until let_interrupts_in() it just ends the process, unless the
    program handles it."""

def let_interrupts_in() -> None:
    """In a new child that is about to run: the program handles SIGINT, also one that came before."""

def leave() -> None:
    """Give up, in a child about to end, all that this process holds in the arena."""

def exit(exitcode: int, /) -> NoReturn:
    """leave(), and end this process as os._exit() does. Its exit code is the last byte of the number."""

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

def arena_name() -> int:
    """A number that only processes of one arena have in common: those that descend from who made it."""

# ---- connections -------------------------------------------------------------------------------

@disjoint_base
class Connection:
    """One end of a stream of messages over a descriptor, which it owns, or beside it, if it is a pipe's."""

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
    def _descriptor(self) -> int: ...
    def _watch(self) -> tuple[int, bool]: ...
    def _passenger(self) -> object: ...
    def _interpose(self) -> None: ...
    def _uncover(self) -> None: ...

@final
class PipeEnd:
    """One end of a channel, which a Connection uses."""

def pipe(duplex: object, /) -> tuple[Connection, Connection]:
    """Two connected connections, whose messages lie in the arena. One-way: the second only sends."""

def stream_pair(duplex: object, /) -> tuple[Connection, Connection]:
    """Two connected connections, whose messages go through sockets. One-way: the second only sends."""

# ---- synchronisation ----------------------------------------------------------------------------

@disjoint_base
class Lock:
    """Anybody may release it. A robust one is released by its holder only; if that is killed, whoever wants
    it next gets it, with a RuntimeWarning."""

    def __init__(self, *, robust: bool = False, ctx: object = None) -> None: ...
    @property
    def recovered(self) -> bool:
        """Was this robust lock taken over from a process that was killed? Until it is released."""
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
    def release(self) -> None: ...
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
    `maxbytes` their size (one larger message may pass when it is empty); 0 is no bound. The large buffers
    of what is got are copied out (`buffers` 0), or stay where they are, read-only (1) or writable (2)."""

    def __init__(self, maxsize: int = 0, maxbytes: int = 0, buffers: int = 0) -> None: ...
    @property
    def maxsize(self) -> int: ...
    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None) -> Any: ...
    def put_many(self, iterable: Iterable[Any], block: bool = True, timeout: float | None = None) -> int:
        """Put the objects in order, up to 256 at a time and each time with nobody's between them; returns how
        many they were. If there is not room for all within the timeout, those that fit are put, and
        Full with their number as its argument is raised. If iterating or pickling raises, what came before
        is put; as far as there is room if it is no Exception (KeyboardInterrupt)."""
    def get_many(self, max_items: int, block: bool = True, timeout: float | None = None) -> list[Any]:
        """Take what is there, up to `max_items`; wait for the first as get does, but return an empty list
        where that raises Empty. If one cannot be unpickled, its exception has the others in its attribute
        `got`."""
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

@final
class Loan:
    """The memory of a message that is looked at where it lies; what queues with `buffers` make. It has the
    buffer protocol."""

# ---- pools ----------------------------------------------------------------------------------------

@final
class Board:
    """Tasks of a pool for up to `seats` workers, and their results. Made by the pool's process,
    inherited by its workers."""

    def __init__(self, seats: int) -> None: ...
    def watch(self, desk: Any, is_locked: Callable[[], bool], result_type: type[AwaitedJob], /) -> None:
        """Whose `_initializer_raised` is told what a worker reports without having a task, and whose
        `_stepped_down` that others wait when lead() returns. Whether its lock is this thread's: then lead()
        leaves it to Python. Of which type the results of submit() are."""
    def introduce(self, func: object, /) -> None:
        """From now on tasks of this function go by reference without more ado; None: those of no one."""
    @property
    def plain(self) -> Any:
        """The function that was introduced last, or None."""
    def put(
        self,
        job: Job,
        key: int,
        how: int,
        func: Any,
        args: Any,
        kwds: Any,
        dumps: Callable[[Any], ReadableBuffer] | None,
        /,
    ) -> int:
        """Send a task, pickled by `dumps` unless that is None. Its result goes to the job, at that key.
        Returns the bytes of the tasks that no worker has taken."""
    def feed(
        self, job: Job, how: int, func: Any, items: Any, size: int, key: int, end: int, most: int, /
    ) -> int:
        """Send the tasks from key to end of a list, tuple or range: one for each item if size is 0, else for
        each slice of `size` items; as long as the function is `plain`, all can be pickled, and the load is no
        more than `most`. Returns the key of the next."""
    def stream(
        self, job: Job, how: int, func: Any, iterator: Iterator[Any], most: int, /
    ) -> tuple[Any, ...] | None:
        """Send what an iterator gives as the job's next tasks, with pauses while enough is ahead; as long as
        the function is `plain`, all can be pickled, and the load is no more than `most`. None at the end; or
        else what was taken but not sent, a tuple of one, or ()."""
    def submit(
        self,
        pool: Any,
        func: Any,
        args: Any,
        kwds: Any,
        callback: Any,
        error_callback: Any,
        attend: bool,
        /,
    ) -> Any:
        """Send a task and return its result, to be. None, and nothing was done, if the function isn't `plain`
        or anything else needs more ado. With `attend` somebody collects it if nobody waits."""
    @property
    def jobs(self) -> dict[int, Any]:
        """Those that expect results, by number."""
    def forget(self, job: Job, /) -> None:
        """It expects nothing more, and lets go of its pool."""
    def collect(self, timeout: float | None = None, job: Job | None = None) -> bool:
        """Wait for results and put them into their jobs; call job._arrived() of those that are complete,
        unless it is so simple that it is done here. Return when the job given is satisfied, or when none is
        given or there are followers and nothing more is there for now. False if the timeout passes first, and
        at the end."""
    def lead(self, job: Job, /) -> None:
        """Collect until the job is satisfied, if nobody leads and nothing is to be put right."""
    leader: Any
    leader_thread: int
    followers: int
    closing: bool
    def nudge(self) -> None:
        """Make whoever collects look whether he goes on."""
    @property
    def guarded(self) -> dict[Any, int]:
        """The threads of the guarded calls that run, by token."""
    @property
    def broken_off(self) -> list[Any]:
        """Tokens of the guarded calls that raised; None for a lead()."""
    def guard(self, function: Callable[..., Any], token: object, /, *args: Any) -> Any:
        """Return function(token, *args). If that raises, append the token to `broken_off` and ring."""
    def bury(self, pid: int, kind: int, obj: object, /) -> bool:
        """Free the seat of a dead worker; this is the result of the task that it had, if any. False if it
        never sat down."""
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
    def serve(
        self,
        run: Callable[..., Any],
        failed: Callable[[BaseException], tuple[int, Any]],
        refused: Callable[[BaseException, Any], tuple[int, Any]],
        most: int | None,
        /,
    ) -> bool:
        """Be a worker: run tasks until there will be none, and return False; or `most` of them. run(how,
        func, args, kwds) is for those that are more than one call; failed and refused say what to report when
        a task raised, and when its value can't be pickled."""
    runs: bool
    def fail(self, kind: int, obj: object, /) -> None:
        """Report something without having a task."""

@disjoint_base
class Job:
    """Where the results of tasks arrive: `total` of them (None: not known yet), at their keys or, unless
    `ordered`, as they come."""

    def __init__(
        self,
        desk: Any,
        board: Any,
        pool: Any,
        func: Any,
        total: int | None,
        ordered: bool,
        iterates: bool,
        in_chunks: bool,
        single: bool,
    ) -> None: ...
    _pool: Any
    @property
    def _desk(self) -> Any: ...
    @property
    def _job(self) -> int:
        """Its number."""
    _func: Any
    _value: Any
    _callback: Any
    _error_callback: Any
    _ready: bool
    _success: bool
    _calling_back: bool
    _sent: int  # by a thread that feeds: the key of the next task
    _ahead: int  # how many tasks may be ahead of the results passed on; 0 for no bound
    _total: int | None
    @property
    def _index(self) -> int:
        """How many results were passed on."""
    def _put_in(self, key: int, kind: int, value: Any, /) -> None:
        """A result has arrived."""
    def _pop(self) -> tuple[int, int, Any] | None:
        """The next result as (key, kind, value), which is passed on then; None if it isn't there."""
    def _next_quickly(self) -> tuple[Any] | None:
        """(value,), the next; None if it isn't there or more than that is to be done."""
    def _begin_chunk(self, chunk: list[Any], /) -> None:
        """The next results are the items of this list."""
    def _pause(self) -> bool:
        """In the thread that feeds: wait while as many tasks are ahead as there may be. True if it shall wait
        no more."""
    def _end_pause(self) -> None:
        """Let that thread go on, if not as many are ahead."""
    def _end_pauses(self) -> None:
        """That thread shall wait no more."""
    def _complete(self) -> bool:
        """Have all results arrived?"""
    def _satisfied(self) -> bool:
        """Is there what somebody may wait for?"""
    def _values(self) -> list[Any]:
        """The values that arrived, all of them."""
    def _failed(self) -> tuple[int, int, Any] | None:
        """The first to arrive that is no value, as (key, kind, value); or None."""
    def _clear_items(self) -> None:
        """Forget all that arrived."""

class AwaitedJob(Job):
    """A job that is ready when all results are there. What get() doesn't find there at once is `_get`'s."""

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise what the task raised. TimeoutError if it does not
        come within `timeout` seconds."""

class IteratingJob(Job):
    """A job whose results are passed on as they come. What isn't there at once is for next() to find."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

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
