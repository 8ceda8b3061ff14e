"""Pools of worker processes.

    caller --> Board: tasks   --> worker          Board: the queues in shared memory (C)
    caller <-- Board: results <-- worker          _Desk: who of this process collects results
                                                  supervisor: a thread for all that nobody waits for

A task is pickled by the caller, straight into shared memory; when its result comes, the C core puts that
into the result object (ApplyResult, MapResult, IMapIterator) that the task belongs to, and when all are there
it makes the object ready, or tells it so (`_arrived`) if there is more to it: an error, a callback.

Results are collected by who waits for one: the first thread that waits leads, the others follow, asleep
until theirs is there or until it is their turn to lead. So a call costs no switch of threads. When nobody
waits, the supervisor does it: it sleeps in poll() on the board's bell and the workers' sentinels. It also
replaces workers, and runs callbacks; a result with a callback is ready when the callback has run. Input
whose length or whose pace is unknown is taken by a thread of its own, so that it may block.

A worker that dies fails the one task that it had, for the board knows which that was. The supervisor
reports it like a result, behind those that the worker sent, and starts another one.

The main thread may be interrupted anywhere by a signal handler that raises. What must not be left half
done runs guarded (Board.guard): if it raises, the supervisor finds the token of the call in
`board.broken_off` and puts things right.

The threads know the _Desk, never the Pool, so that a pool which is dropped goes; the desk holds the pool
while work is out.
"""

from ._core import TimeoutError as TimeoutError
from ._pool.errors import ExceptionWithTraceback as ExceptionWithTraceback
from ._pool.errors import MaybeDecodingError as MaybeDecodingError
from ._pool.errors import MaybeEncodingError as MaybeEncodingError
from ._pool.errors import PoolTerminated as PoolTerminated
from ._pool.errors import RemoteTraceback as RemoteTraceback
from ._pool.errors import WorkerDied
from ._pool.errors import rebuild_exc as rebuild_exc
from ._pool.pool import CLOSE as CLOSE
from ._pool.pool import INIT as INIT
from ._pool.pool import RUN as RUN
from ._pool.pool import TERMINATE as TERMINATE
from ._pool.pool import Pool
from ._pool.results import ApplyResult as ApplyResult
from ._pool.results import AsyncResult as AsyncResult
from ._pool.results import IMapIterator as IMapIterator
from ._pool.results import IMapUnorderedIterator as IMapUnorderedIterator
from ._pool.results import MapResult as MapResult
from ._pool.threads import ThreadPool
from ._pool.worker import worker as worker

__all__ = ["Pool", "ThreadPool", "WorkerDied"]

# They say that they are from here, and are pickled so.
for _known in list(globals().values()):
    if getattr(_known, "__module__", "").startswith(f"{__package__}._pool."):
        _known.__module__ = __name__
