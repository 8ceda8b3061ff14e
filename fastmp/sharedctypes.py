"""ctypes objects in shared memory, with locks and without.

The types of the C core are at work here: `Synchronized`, `SynchronizedArray` and `SynchronizedString` keep
their items and the lock in one piece of shared memory, and read and write simple types themselves. A ctypes
object on that memory is made when somebody asks for it (get_obj) or assigns something unusual. Structures
and other types without a typecode always are ctypes objects; a class with a property for each field takes
the lock.
"""

from __future__ import annotations

import ctypes
import weakref

from . import reduction
from ._core import (
    Block,
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    set_typecodes,
)
from .heap import BufferWrapper

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

# The first code of a type counts: c_longlong may be c_long under another name.
_simple = {ctypes.c_bool: "?"} | {ctype: code for code, ctype in reversed(typecode_to_type.items())}


def _ctype(typecode_or_type: Any) -> Any:
    """The ctypes type that was meant; TypeError if there is none."""
    ctype = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if not isinstance(ctype, type) or not hasattr(ctype, "from_buffer"):
        codes = ", ".join(typecode_to_type)
        raise TypeError(f"bad typecode {typecode_or_type!r}: must be a ctypes type or one of {codes}")
    return ctype


def _sized(item: Any, size_or_initializer: Any) -> tuple[Any, Any]:
    """The type of an array, and what its items are to be at first."""
    if isinstance(size_or_initializer, int):
        return item * size_or_initializer, ()
    return item * len(size_or_initializer), size_or_initializer


def _own_lock(lock: Any) -> Any:
    """The given lock, or None where True or None asks for a new RLock."""
    if lock in (True, None):
        return None
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return lock


# ---- without a lock ------------------------------------------------------------------------------------


def _place(ctype: Any, wrapper: Block) -> Any:
    """An object of a ctypes type on shared memory, which can be an argument of a process."""
    reduction.register(ctype, _reduce_ctype)
    obj = ctype.from_buffer(wrapper)
    obj._wrapper = wrapper
    return obj


def _reduce_ctype(obj: Any) -> Any:
    wrapper = getattr(obj, "_wrapper", None)
    if wrapper is None:  # not shared: by value, as ever
        return obj.__reduce_ex__(2)
    if isinstance(obj, ctypes.Array):  # its type has no name
        return _place_array, (obj._type_, obj._length_, wrapper)
    return _place, (type(obj), wrapper)


def _place_array(item: Any, length: int, wrapper: Block) -> Any:
    return _place(item * length, wrapper)


set_typecodes(_simple, _place)


def _new(ctype: Any) -> Any:
    return _place(ctype, BufferWrapper(ctypes.sizeof(ctype)))


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory."""
    obj = _new(_ctype(typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """A ctypes array in shared memory."""
    ctype, initial = _sized(_ctype(typecode_or_type), size_or_initializer)
    obj = _new(ctype)
    obj.__init__(*initial)
    return obj


def copy(obj: Any) -> Any:
    """A copy of a ctypes object, in shared memory of its own."""
    new = _new(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


# ---- with a lock ---------------------------------------------------------------------------------------


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: object = None) -> Any:
    """A ctypes object in shared memory, used under a lock: a new RLock, or the given lock; the object itself
    with `lock=False`."""
    ctype = _ctype(typecode_or_type)
    if lock is False:
        return RawValue(ctype, *args)
    lock = _own_lock(lock)
    if ctype in _simple:
        return Synchronized._allocate(ctype, lock, args)
    return synchronized(RawValue(ctype, *args), lock, ctx)


def Array(typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: object = None) -> Any:
    """A ctypes array in shared memory, used under a lock: a new RLock, or the given lock; the array itself
    with `lock=False`."""
    item = _ctype(typecode_or_type)
    if lock is False:
        return RawArray(item, size_or_initializer)
    lock = _own_lock(lock)
    if item not in _simple:
        return synchronized(RawArray(item, size_or_initializer), lock, ctx)
    ctype, initial = _sized(item, size_or_initializer)
    return _array_class(item)._allocate(ctype, lock, initial)


def synchronized(obj: Any, lock: Any = None, ctx: object = None) -> Any:
    """What uses a ctypes object under a lock: a new RLock, or the given lock."""
    if isinstance(obj, SynchronizedBase):
        raise AssertionError("object already synchronized")
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        return _array_class(obj._type_)(obj, lock, ctx)
    return _fields_class(type(obj))(obj, lock, ctx)


def _array_class(item: Any) -> type[SynchronizedArray]:
    return SynchronizedString if item is ctypes.c_char else SynchronizedArray


_classes: weakref.WeakKeyDictionary[type, type[SynchronizedBase]] = weakref.WeakKeyDictionary()


def _fields_class(ctype: Any) -> type[SynchronizedBase]:
    """The class for a type of structures or unions, with properties for their fields."""
    found = _classes.get(ctype)
    if found is None:
        bases = [base for base in reversed(ctype.__mro__) if "_fields_" in vars(base)]
        names = [field[0] for base in bases for field in base._fields_] if bases else ctype._fields_
        members: dict[str, Any] = {name: _locked(name) for name in names}
        members |= {"__module__": __name__, "__reduce__": _reduce_synchronized}
        found = _classes[ctype] = type(f"Synchronized{ctype.__name__}", (SynchronizedBase,), members)
    return found


def _reduce_synchronized(self: SynchronizedBase) -> Any:
    """Its class is made anew where it arrives."""
    SynchronizedBase.__reduce__(self)  # raises if it may not travel
    return synchronized, (self.get_obj(), self.get_lock())


def _locked(name: str) -> property:
    """An attribute of the ctypes object, used under the lock."""

    def get(self: SynchronizedBase) -> Any:
        with self:
            return getattr(self.get_obj(), name)

    def put(self: SynchronizedBase, value: Any) -> None:
        with self:
            setattr(self.get_obj(), name, value)

    return property(get, put)
