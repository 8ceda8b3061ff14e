"""Arguments of any type and value, for all that can't wait in vain: the right kind of exception, or none.

surface.py compares chosen calls with the standard library's; here hypothesis chooses. Whatever it does,
nothing crashes, hangs or leaks, and what an argument raises by itself, whatever it is, comes through. Sizes
are small, or so large that no machine has them: what lies between would be had, and take long.
"""

import ctypes
import os
import pickle
import queue
import threading
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastmp
from fastmp import _core, _spawning, connection, util

settings.register_profile(
    "fastmp",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fastmp")

pytestmark = pytest.mark.deadline(40)


class Marker(BaseException):
    """What hostile arguments raise."""


def explode(self, *args):
    raise Marker


def hostile(*names):
    """An object whose special methods raise."""
    return type(f"Hostile{'_'.join(names)}", (), dict.fromkeys(names, explode))()


class Liar:
    """Its special methods return what they shouldn't."""

    def __init__(self, answer):
        self.answer = answer

    def __index__(self):
        return self.answer

    __float__ = __len__ = __bool__ = fileno = __iter__ = __index__

    def __getitem__(self, key):
        raise IndexError

    def __repr__(self):
        return f"Liar({self.answer!r})"


HOSTILE = [
    hostile("__index__", "__int__"),
    hostile("__float__", "__bool__"),
    hostile("__len__", "__iter__", "__getitem__"),
    hostile("__hash__", "__eq__"),
    hostile("__call__", "fileno"),
    hostile("__getattr__", "__repr__", "__str__"),
    hostile("__reduce_ex__", "__getstate__"),
    *map(Liar, (-1, 2**70, None, "text")),
]
SOME_HOSTILE = st.integers(0, len(HOSTILE) - 1).map(HOSTILE.__getitem__)  # they can't be sampled: no hash
SIZES = [0, 1, 2, 3, 255, 1000, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, 2**70]
VALUES = st.one_of(
    st.sampled_from([*SIZES, *(-size for size in SIZES)]),
    st.none(),
    st.booleans(),
    st.floats(),
    SOME_HOSTILE,
    st.text(max_size=5),
    st.sampled_from(list("cbBuhHiIlLqQfd?")),  # typecodes
    st.binary(max_size=5),
    st.sampled_from(
        [int, len, Marker, ctypes.c_int, ctypes.Structure, object(), memoryview(b"abcd")[::2], 2j, ...]
    ),
    st.lists(st.one_of(st.integers(-3, 300), SOME_HOSTILE, st.text(max_size=2)), max_size=3),
    st.builds(slice, *[st.one_of(st.none(), st.sampled_from(SIZES), SOME_HOSTILE)] * 3),
)
ARGUMENTS = st.lists(VALUES, max_size=3)

RIGHT = (
    *(TypeError, ValueError, OverflowError, MemoryError, OSError, EOFError, AttributeError, AssertionError),
    *(IndexError, KeyError, BufferError, RuntimeError, queue.Empty, queue.Full, threading.BrokenBarrierError),
    *(ctypes.ArgumentError, pickle.PickleError, fastmp.ProcessError, Marker),
)


def attempt(function, *args, **kwargs):
    """Call it; whatever it raises has to be right."""
    try:
        return function(*args, **kwargs)
    except RIGHT as e:
        assert not isinstance(e, RecursionError), e


# ---- what makes things -----------------------------------------------------------------------------

ctx = fastmp.get_context("fork")

MAKERS = {
    **{name: getattr(ctx, name) for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition")},
    **{name: getattr(ctx, name) for name in ("Event", "Barrier", "Queue", "JoinableQueue", "SimpleQueue")},
    **{
        name: getattr(ctx, name)
        for name in ("Value", "Array", "RawValue", "RawArray", "Process", "get_context")
    },
    **{f"_core.{name}": getattr(_core, name) for name in ("Block", "Condition", "Barrier", "MessageQueue")},
    "_core.SynchronizedBase": _core.SynchronizedBase,
    "_core.Connection": lambda handle=-1, *args: _core.Connection(
        -1 if handle in range(1001) else handle, *args
    ),
    "address_type": connection.address_type,
    "Finalize": lambda *args: util.Finalize(None, *args),
}


@pytest.mark.parametrize("name", MAKERS)
@given(
    args=ARGUMENTS,
    keyword=st.sampled_from(["", "lock", "timeout", "maxsize", "value", "args", "ctx", "nothing"]),
)
def test_what_makes_things(name, args, keyword):
    kwargs = {keyword: args[-1]} if keyword and args else {}
    attempt(MAKERS[name], *(args[:-1] if kwargs else args), **kwargs)


@given(duplex=VALUES)
def test_pipes(duplex):
    for conn in attempt(fastmp.Pipe, duplex) or ():
        conn.close()


# ---- what is done with them ------------------------------------------------------------------------


def set_event():
    event = ctx.Event()
    event.set()
    return event


def filled(name):
    filled = getattr(ctx, name)()
    filled.put("item")
    return filled


def with_message():
    reader, writer = fastmp.Pipe(duplex=False)
    writer.send_bytes(pickle.dumps("message"))
    writer.close()
    return reader


def writer():
    return fastmp.Pipe()[0]


METHODS = [
    *((ctx.Lock, name) for name in ("acquire", "release", "__enter__", "__exit__", "locked")),
    *((ctx.RLock, name) for name in ("acquire", "release", "__enter__", "__exit__")),
    *((ctx.Semaphore, name) for name in ("acquire", "release", "get_value", "__exit__")),
    *((ctx.BoundedSemaphore, name) for name in ("acquire", "release")),
    *((ctx.Condition, name) for name in ("acquire", "notify", "notify_all", "wait", "wait_for", "__exit__")),
    *((set_event, name) for name in ("wait", "is_set", "set", "clear")),
    *((lambda: ctx.Barrier(1), name) for name in ("wait", "reset", "abort")),
    *((lambda: filled("Queue"), name) for name in ("get", "put", "put_nowait", "qsize", "close", "get_many")),
    *((lambda: filled("Queue"), name) for name in ("put_many", "join_thread", "cancel_join_thread")),
    *((lambda: filled("SimpleQueue"), name) for name in ("get", "put", "empty")),
    *((lambda: ctx.JoinableQueue(), name) for name in ("put", "task_done", "join")),
    *((with_message, name) for name in ("recv_bytes", "recv_bytes_into", "poll", "recv", "send", "fileno")),
    *((writer, name) for name in ("send", "send_bytes", "close", "__exit__")),
    *((lambda: ctx.Value("i"), name) for name in ("get_lock", "get_obj", "acquire", "__exit__")),
    *((lambda: ctx.Array("i", 3), name) for name in ("__getitem__", "__setitem__", "acquire")),
    *((lambda: ctx.Array("c", 3), name) for name in ("__getitem__", "__setitem__")),
    *((ctx.Process, name) for name in ("join", "terminate", "is_alive", "close")),
    *((lambda: _core.Block(100), name) for name in ("give", "attach", "_attach")),
    *((lambda: _core.MessageQueue(), name) for name in ("put_bytes", "_attach", "_shut")),
    *(
        (lambda: _core.Board(1), name)
        for name in ("put", "fail", "bury", "watch", "guard", "report", "_attach")
    ),
    *((cls, "_attach") for cls in (ctx.Lock, ctx.RLock, ctx.Semaphore, ctx.Condition, ctx.Event)),
    *((lambda: ctx.Barrier(1), "_attach"), (lambda: ctx.Value("i"), "_attach")),
    *((_core.expect, name) for name in ("born", "ended", "kill", "poll")),
]


@pytest.mark.parametrize(("make", "name"), METHODS, ids=lambda part: part if isinstance(part, str) else "")
@given(
    args=ARGUMENTS,
    keyword=st.sampled_from(["", "", "block", "timeout", "n", "maxlength", "offset", "nothing"]),
)
def test_what_is_done_with_them(make, name, args, keyword):
    if name in ("born", "ended", "kill") and args and args[0] in range(1001):
        return  # it may be somebody's
    obj = make()
    kwargs = {keyword: args[-1]} if keyword and args else {}
    attempt(getattr(obj, name, explode), *(args[:-1] if kwargs else args), **kwargs)
    if hasattr(obj, "close"):
        attempt(obj.close)


ATTRIBUTES = [
    (lambda: ctx.Value("i"), "value"),
    (lambda: ctx.Value("d"), "value"),
    (lambda: ctx.Value("c"), "value"),
    (lambda: ctx.Value(ctypes.c_bool), "value"),
    (lambda: ctx.Array("c", 3), "value"),
    (lambda: ctx.Array("c", 3), "raw"),
    (ctx.Process, "name"),
    (ctx.Process, "daemon"),
    (ctx.Process, "authkey"),
    (ctx.Lock, "anything"),
]


@pytest.mark.parametrize(("make", "name"), ATTRIBUTES, ids=lambda part: part if isinstance(part, str) else "")
@given(value=VALUES)
def test_attributes(make, name, value):
    obj = make()
    attempt(setattr, obj, name, value)
    attempt(delattr, obj, name)
    attempt(getattr, obj, name)


@given(objects=st.lists(VALUES, max_size=2), timeout=VALUES)
def test_waiting(objects, timeout):
    with with_message() as reader:
        assert attempt(connection.wait, [reader], timeout) in (None, [reader])
        attempt(connection.wait, objects, 0)
        attempt(connection.wait, timeout, 0)


@given(items=st.lists(VALUES, max_size=4))
def test_items_of_queues_are_what_they_were(items):
    """Or are refused where they are put."""
    q = ctx.Queue()
    for item in items:
        before = q.qsize()
        try:
            q.put(item)
        except RIGHT:
            assert q.qsize() == before
        else:
            attempt(q.get)
    assert q.qsize() == 0


CALLS_OF_A_POOL = ("apply", "map", "starmap", "imap", "imap_unordered", "apply_async", "map_async")


@pytest.mark.parametrize("name", CALLS_OF_A_POOL)
def test_pools(name):
    @settings(max_examples=20)
    @given(args=ARGUMENTS)
    def call(args):
        args = [arg for arg in args if arg is not len] if name == "imap" else args
        result = attempt(getattr(pool, name), *args)
        if hasattr(result, "get"):
            attempt(result.get, 30)
        elif hasattr(result, "next"):
            attempt(list, result)

    with ctx.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        call()
        assert pool.apply(os.getpid) == worker


# ---- tickets ---------------------------------------------------------------------------------------

HANDLES = {
    "Lock": ctx.Lock,
    "RLock": ctx.RLock,
    "Semaphore": ctx.Semaphore,
    "Condition": ctx.Condition,
    "Event": ctx.Event,
    "Barrier": lambda: ctx.Barrier(2),
    "Queue": lambda: _core.MessageQueue(),
    "Block": lambda: _core.Block(10),
    "Value": lambda: ctx.Value("i"),
    "Array": lambda: ctx.Array("d", 1000),
}


def tickets():
    """Each handle, held, and the ticket that it would travel by."""
    child = _core.expect()
    popen = types.SimpleNamespace(_child=child)
    _spawning.set_spawning_popen(popen)
    try:
        for name, make in HANDLES.items():
            obj = make()
            _, (ticket, extra), *_ = obj.__reduce__()
            yield name, obj, ticket, extra
    finally:
        _spawning.set_spawning_popen(None)


def test_a_ticket_is_for_its_object_alone():
    found = list(tickets())
    for name, obj, ticket, extra in found:
        attach = type(obj)._attach
        assert type(attach(ticket, extra)) is type(obj), name
        for place in range(3):
            for change in 1, -1, 2**31, 2**32, 2**64, -(2**70):
                changed = [*ticket]
                changed[place] += change
                with pytest.raises((RuntimeError, OverflowError)):
                    attach(tuple(changed), extra)
        for garbage in (None, (), (1,), "text", (None,) * 4, (*ticket[:2], "text", 0), (*ticket, 0)):
            with pytest.raises(TypeError):
                attach(garbage, extra)


def test_the_ticket_of_another_kind_is_refused():
    """Or is for something that is as large, so that it is no access to what is not there."""
    found = list(tickets())
    for name, obj, _, extra in found:
        for other, _, ticket, _ in found:
            if (name != other and {name, other} & {"Condition", "Queue"}) or name == "Array" != other:
                with pytest.raises(RuntimeError):
                    type(obj)._attach(ticket, extra)


def test_more_cells_than_there_are():
    found = {name: (obj, ticket, extra) for name, obj, ticket, extra in tickets()}
    array, ticket, ((item, length), lock) = found["Array"]
    assert length == 1000
    for longer in 1001, 2**40, 2**60:
        with pytest.raises((RuntimeError, ValueError, OverflowError, MemoryError)):
            type(array)._attach(ticket, ((item, longer), lock))
