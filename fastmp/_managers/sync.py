"""The manager of the standard types: what it can make.

Objects are plain Python objects in the server; what its threads must wait for, they wait for as threads.
"""

from __future__ import annotations

import array
import queue
import threading

import fastmp

from .. import reduction
from .manager import BaseManager
from .proxies import (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    NamespaceProxy,
    PoolProxy,
    SetProxy,
    ValueProxy,
)
from .values import Array, Namespace, Value

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def _make_pool(*args: Any, **kwds: Any) -> Any:
    return fastmp.pool.Pool(*args, **kwds)  # loaded by the first who wants one


class SyncManager(BaseManager):
    """A manager for the types that programs share most; more may be registered with it."""


SyncManager.register("Queue", queue.Queue)
SyncManager.register("JoinableQueue", queue.Queue)
SyncManager.register("Event", threading.Event, EventProxy)
SyncManager.register("Lock", threading.Lock, AcquirerProxy)
SyncManager.register("RLock", threading.RLock, AcquirerProxy)
SyncManager.register("Semaphore", threading.Semaphore, AcquirerProxy)
SyncManager.register("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy)
SyncManager.register("Condition", threading.Condition, ConditionProxy)
SyncManager.register("Barrier", threading.Barrier, BarrierProxy)
SyncManager.register("Pool", _make_pool, PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
SyncManager.register("Value", Value, ValueProxy)
SyncManager.register("Array", Array, ArrayProxy)
SyncManager.register("Namespace", Namespace, NamespaceProxy)
# What methods of the others return.
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)


# ---- results that pickle cannot do by itself -------------------------------------------------------------


def _reduce_array(values: array.array[Any]) -> tuple[Any, ...]:
    return array.array, (values.typecode, values.tobytes())


def _reduce_view(view: Iterable[Any]) -> tuple[Any, ...]:
    return list, (list(view),)


reduction.register(array.array, _reduce_array)
_empty: dict[str, object] = {}
for _view in (_empty.keys(), _empty.values(), _empty.items()):
    reduction.register(type(_view), _reduce_view)
