"""A signal handler that strikes at any step of a call of a queue: it raises, or uses the queue.

Each test goes through all places of a call at which a handler can come (strikes.py). A put has then happened
wholly or not at all, a get has taken its message or not, and no permit, count, thread or descriptor is lost.
"""

import contextlib
import itertools
import queue
import threading

import pytest
from queue_targets import OwnEnds, OwnJoinableEnds, OwnSimpleEnds
from strikes import Struck, all_strikes, strike, strike_asleep
from targets import DEADLINE
from waiting import wait_until

import fastmp

ctx = fastmp.get_context("fork")
MOST = 5


class Item:
    """Python code runs when it is pickled and unpickled."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return revive, (int(self.number),)

    def __eq__(self, other):
        return isinstance(other, Item) and self.number == other.number

    def __repr__(self):
        return f"Item({self.number})"


def revive(number):
    return Item(int(number))


ITEMS = [Item(0), Item(1), Item(2)]
BOUNDED = {
    "Queue": lambda: ctx.Queue(MOST),
    "JoinableQueue": lambda: ctx.JoinableQueue(MOST),
    "classic Queue": lambda: OwnEnds(MOST, ctx=ctx),
    "classic JoinableQueue": lambda: OwnJoinableEnds(MOST, ctx=ctx),
}
SIMPLE = {"SimpleQueue": ctx.SimpleQueue, "classic SimpleQueue": lambda: OwnSimpleEnds(ctx=ctx)}
KINDS = BOUNDED | SIMPLE
PUTS = {
    "put": (lambda q: q.put(ITEMS[0]), 1),
    "put with a timeout": (lambda q: q.put(ITEMS[0], timeout=DEADLINE), 1),
    "put_nowait": (lambda q: q.put_nowait(ITEMS[0]), 1),
    "put_many": (lambda q: q.put_many(iter(ITEMS)), 3),
}
GETS = {
    "get": (lambda q: [q.get()], 1),
    "get with a timeout": (lambda q: [q.get(timeout=DEADLINE)], 1),
    "get_nowait": (lambda q: [q.get_nowait()], 1),
    "get_many": (lambda q: q.get_many(2), 2),
}
TIMED = ("put with a timeout", "put_nowait", "get with a timeout", "get_nowait")
STRIDE = 7  # in the normal suite not all places are gone through


each_stride = pytest.mark.parametrize(
    "stride", [STRIDE, pytest.param(1, marks=[pytest.mark.stress, pytest.mark.deadline(900)])]
)


def pairs(calls):
    return [
        (kind, call) for kind, call in itertools.product(KINDS, calls) if kind in BOUNDED or call not in TIMED
    ]


@contextlib.contextmanager
def new_queue(kind):
    q = KINDS[kind]()
    yield q
    q.close()
    if kind in BOUNDED:
        q.join_thread()
        assert not (thread := vars(q).get("_thread")) or not thread.is_alive()


def struck_run(striker, k, function, handler=strike):
    """What the function returns, or None if the handler raised."""
    try:
        result = striker.run(k, function, handler)
    except Struck:
        return None
    assert handler is not strike or not striker.struck, striker.place
    return result


def drain(q):
    q.put("the last")
    return list(iter(q.get, "the last"))


def check_permits(kind, q, unfinished):
    """It is empty, and as much as ever fits in; `unfinished` tasks are not done, and then no more."""
    if kind not in BOUNDED:
        assert q.empty()
        return
    wait_until(lambda: q.qsize() == 0)
    for n in range(MOST):
        q.put_nowait(n)
    assert q.full()
    with pytest.raises(queue.Full):
        q.put_nowait(MOST)
    assert [q.get(timeout=DEADLINE) for _ in range(MOST)] == list(range(MOST))
    if hasattr(q, "task_done"):
        for _ in range(unfinished + MOST):
            q.task_done()
        with pytest.raises(ValueError, match="too many times"):
            q.task_done()
        q.join()


@each_stride
@pytest.mark.parametrize("kind", KINDS)
def test_the_making_is_struck(kind, stride):
    for striker, k in all_strikes(stride, __file__):
        q = struck_run(striker, k, KINDS[kind])
        del q


@each_stride
@pytest.mark.parametrize("kind, call", pairs(PUTS))
def test_a_put_is_struck(kind, call, stride):
    function, many = PUTS[call]
    for striker, k in all_strikes(stride, __file__):
        with new_queue(kind) as q:
            struck_run(striker, k, lambda q=q: function(q))
            got = drain(q)
            assert got == ITEMS[: len(got)], striker.place
            assert striker.struck or len(got) == many
            check_permits(kind, q, len(got) + 1)


@each_stride
@pytest.mark.parametrize("kind", ["classic Queue", "classic JoinableQueue"])
@pytest.mark.parametrize("first", [[], ["the first"]])
def test_a_put_is_struck_in_what_threads_are_made_of(kind, first, stride):
    """Also in the start of the thread, or in the condition that wakes it."""
    for striker, k in all_strikes(stride, __file__, threading.__file__):
        with new_queue(kind) as q:
            q.put_many(first)
            struck_run(striker, k, lambda q=q: q.put(ITEMS[0]))
            got = drain(q)
            assert got == [*first, *ITEMS[: len(got) - len(first)]], striker.place
            check_permits(kind, q, len(got) + 1)


@each_stride
@pytest.mark.parametrize("kind, call", pairs(GETS))
def test_a_get_is_struck(kind, call, stride):
    function, many = GETS[call]
    for striker, k in all_strikes(stride, __file__):
        with new_queue(kind) as q:
            q.put_many(ITEMS)
            wait_until(lambda q=q: not q.empty())
            got = struck_run(striker, k, lambda q=q: function(q))
            rest = drain(q)
            assert rest == ITEMS[len(ITEMS) - len(rest) :], striker.place
            assert len(rest) >= len(ITEMS) - many, striker.place
            assert striker.struck or got + rest == ITEMS
            check_permits(kind, q, len(ITEMS) + 1)


@each_stride
@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("call", ["close", "join_thread"])
def test_the_end_is_struck(kind, call, stride):
    for striker, k in all_strikes(stride, __file__, threading.__file__):
        with new_queue(kind) as q:
            q.put(ITEMS[0])
            if call == "join_thread":
                q.close()
            struck_run(striker, k, lambda q=q: getattr(q, call)())


@each_stride
@pytest.mark.parametrize("kind", ["JoinableQueue", "classic JoinableQueue"])
@pytest.mark.parametrize("call", ["task_done", "join"])
def test_tasks_are_struck(kind, call, stride, in_thread):
    for striker, k in all_strikes(stride, __file__):
        with new_queue(kind) as q:
            if call == "task_done":
                q.put(ITEMS[0])
            joined = in_thread(q.join)
            struck_run(striker, k, lambda q=q: getattr(q, call)())
            if call == "task_done" and striker.struck:
                with contextlib.suppress(ValueError):
                    q.task_done()
            joined()
            assert drain(q) == ITEMS[:1] * (call == "task_done")
            check_permits(kind, q, 1)


def test_nobody_waits_for_room_after_a_strike():
    q = ctx.Queue(2)

    def interrupted():
        yield from range(3)
        raise Struck

    with pytest.raises(Struck):
        q.put_many(interrupted())
    assert [q.get(), q.get()] == [0, 1]
    assert q.empty()


@each_stride
@pytest.mark.parametrize("kind, call", [p for p in pairs(PUTS) if "classic" not in p[0]])
def test_a_handler_puts(kind, call, stride):
    function, many = PUTS[call]
    for striker, k in all_strikes(stride, __file__):
        with new_queue(kind) as q:
            struck_run(striker, k, lambda q=q: function(q), lambda q=q: q.put("the handler's"))
            got = drain(q)
            assert got.count("the handler's") == striker.struck, striker.place
            assert [item for item in got if item != "the handler's"] == ITEMS[:many], striker.place
            check_permits(kind, q, len(got) + 1)


@each_stride
@pytest.mark.parametrize("kind, call", [p for p in pairs(GETS) if "classic" not in p[0]])
def test_a_handler_gets(kind, call, stride):
    function, many = GETS[call]
    for striker, k in all_strikes(stride, __file__):
        seen = []
        with new_queue(kind) as q:
            q.put_many(ITEMS)
            got = struck_run(striker, k, lambda q=q: function(q), lambda q=q, seen=seen: seen.append(q.get()))
            rest = drain(q)
            assert len(got) == many
            assert len(seen) == striker.struck
            assert sorted(got + seen, key=ITEMS.index) + rest == ITEMS, striker.place
            check_permits(kind, q, len(ITEMS) + 1)


# ---- asleep -------------------------------------------------------------------------------------------

# What to do first, what then blocks, what a handler does to end that; the tasks that are not done if the
# handler raises instead, and if it does not.
BLOCKED = {
    "get": (lambda q: None, lambda q: q.get(), lambda q: q.put(1), 0, 1),
    "get with a timeout": (lambda q: None, lambda q: q.get(timeout=DEADLINE), lambda q: q.put(1), 0, 1),
    "get_many": (lambda q: None, lambda q: q.get_many(2), lambda q: q.put(1), 0, 1),
    "put": (lambda q: q.put_many(range(MOST)), lambda q: q.put(1), lambda q: q.get(), MOST, MOST + 1),
    "put_many": (lambda q: None, lambda q: q.put_many(range(MOST + 1)), lambda q: q.get(), MOST, MOST + 1),
    "join": (lambda q: q.put(1), lambda q: q.join(), lambda q: q.task_done(), 1, 0),
}


def blocking_pairs():
    for kind, call in itertools.product(KINDS, BLOCKED):
        if call.startswith("put") and kind not in BOUNDED:
            continue
        if call == "join" and "Joinable" not in kind:
            continue
        if call not in TIMED or kind in BOUNDED:
            yield kind, call


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("kind, call", list(blocking_pairs()))
def test_asleep(kind, call, raises):
    begin, block, free, left_by_strike, left = BLOCKED[call]
    with new_queue(kind) as q:
        begin(q)
        if raises:
            with pytest.raises(Struck):
                strike_asleep(lambda: block(q), lambda: None, strike)
        else:
            strike_asleep(lambda: block(q), lambda: None, lambda: free(q))
        while q.qsize() > 0 if kind in BOUNDED else not q.empty():
            q.get()
        check_permits(kind, q, left_by_strike if raises else left)
