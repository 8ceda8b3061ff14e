"""The manager of the standard types: what it can make, and the types that exist only for it.

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

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Namespace:
    """An object for attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if name[:1] != "_")
        return f"{type(self).__name__}({', '.join(shown)})"


class Value:
    """An object for one value."""

    def __init__(self, typecode: str, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        return self._value

    def set(self, value: Any) -> None:
        self._value = value

    value = property(get, set)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"


def Array(typecode: str, sequence: Iterable[Any], lock: bool = True) -> array.array[Any]:
    return array.array(typecode, sequence)


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
