"""Signals that strike all the time, at any instruction: handlers raise wherever they come.

strikes.py goes through the places of the code in Python one by one; what a signal meets in C, in system calls
and while it sleeps, a storm finds. Nothing is lost then but what the call that was struck had in its hands.
"""

import itertools
import signal
import sys
import time

import pytest
from queue_targets import OwnEnds, OwnJoinableEnds, OwnSimpleEnds
from strikes import Struck
from targets import DEADLINE
from waiting import join, wait_until

import fastmp
from fastmp import queues
from fastmp.connection import Pipe, stream_pipe

ctx = fastmp.get_context("fork")
SECONDS = [0.1, pytest.param(10, marks=pytest.mark.stress)]
PERIOD = 0.0003  # of the signals

# What is raised in a finalizer is lost, as the interpreter has it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


QUEUES = {
    "Queue": lambda: ctx.Queue(50),
    "bounded": lambda: ctx.Queue(3),
    "SimpleQueue": ctx.SimpleQueue,
    "classic": lambda: OwnEnds(50, ctx=ctx),
    "classic JoinableQueue": lambda: OwnJoinableEnds(50, ctx=ctx),
    "classic SimpleQueue": lambda: OwnSimpleEnds(ctx=ctx),
}
PIPES = {"memory": Pipe, "stream": stream_pipe}
MESSAGES = [b"short", b"longer" * 1000, b"long" * (1 << 16)]


def storm(seconds, step):
    """Call step(n) for n = 0, 1, ..., of which many raise Struck. What the others returned, by n."""
    armed, done = False, {}

    def handle(signum, frame):
        nonlocal armed
        if armed:
            armed = False
            raise Struck

    old = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
    try:
        end = time.monotonic() + seconds
        for n in itertools.count():
            try:
                armed = True
                result = step(n)
                armed = False
                done[n] = result
            except Struck:
                pass
            if time.monotonic() > end:
                return done
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def message(n):
    return n, MESSAGES[n % len(MESSAGES)]


def collect(receive, result):
    """In a child: receive until None comes, and tell what came."""
    numbers = []
    for number, data in iter(receive, None):
        assert (number, data) == message(number)
        numbers.append(number)
    result.send(numbers)


def produce(send, over):
    n = 0
    while not over.is_set():
        send(message(n))
        n += 1
    send(None)


def check_order(numbers):
    assert all(a < b for a, b in itertools.pairwise(numbers))


@pytest.fixture
def child(finish):
    """A function that runs another in a forked child, which has to end by itself."""
    children = []

    def run(target, *args):
        children.append(ctx.Process(target=target, args=args))
        children[-1].start()

    yield run
    finish(*children)
    for each in children:
        join(each)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", QUEUES)
def test_who_puts_is_struck(kind, seconds, child):
    q, (reader, writer) = QUEUES[kind](), Pipe(False)
    child(collect, q.get, writer)
    done = storm(seconds, lambda n: q.put(message(n)))
    q.put(None)
    numbers = reader.recv()
    check_order(numbers)
    assert done.keys() <= set(numbers)
    end(q)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", QUEUES)
def test_who_gets_is_struck(kind, seconds, child):
    """Who else gets is not disturbed. (In a classic queue he may find half a message, as ever.)"""
    q, (reader, writer), over = QUEUES[kind](), Pipe(False), ctx.Event()
    child(produce, q.put, over)
    classic = kind.startswith("classic")
    if not classic:
        child(collect, q.get, writer)
    done = storm(seconds, lambda n: q.get())
    over.set()
    numbers = [number for number, _ in done.values()]
    check_order(numbers)
    if classic:
        collect(q.get, writer)
    others = reader.recv()
    check_order(others)
    assert not set(numbers) & set(others)
    end(q)


def end(q):
    q.close()
    if isinstance(q, queues.Queue):
        q.join_thread()


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", PIPES)
def test_who_sends_is_struck(kind, seconds, child):
    a, b = PIPES[kind]()
    reader, writer = Pipe(False)
    with a, b:
        child(collect, b.recv, writer)
        done = storm(seconds, lambda n: a.send(message(n)))
        a.send(None)
        numbers = reader.recv()
    check_order(numbers)
    assert done.keys() <= set(numbers)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", PIPES)
def test_who_receives_is_struck(kind, seconds, child):
    a, b = PIPES[kind]()
    over = ctx.Event()
    with a, b:
        child(produce, a.send, over)
        done = storm(seconds, lambda n: b.recv())
        over.set()
        numbers = [number for number, _ in done.values()]
        check_order(numbers)
        for number, _ in iter(b.recv, None):
            assert not numbers or number > numbers[-1]


def take_turns(lock, over, turns):
    while not over.is_set():
        with lock:
            turns.value += 1


# strikes.py leaves that place out; a storm cannot.
by_with = pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="the interpreter lets a handler raise between `with lock:` and its block: the user's lock is lost",
)
LOCKS = {
    "Lock": ctx.Lock,
    "RLock": ctx.RLock,
    "Semaphore": lambda: ctx.Semaphore(1),
    "Condition": ctx.Condition,
}


@by_with
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", LOCKS)
def test_who_takes_a_lock_is_struck(kind, seconds, child):
    lock, over, turns = LOCKS[kind](), ctx.Event(), ctx.RawValue("L")
    child(take_turns, lock, over, turns)

    def take(n):
        with lock:
            pass

    storm(seconds, take)
    before = turns.value
    wait_until(lambda: turns.value > before)
    over.set()
    assert lock.acquire(timeout=DEADLINE)
    lock.release()


def keep_notifying(cond, event, over):
    while not over.is_set():
        with cond:
            cond.notify()
        event.set()
        event.clear()


@by_with
@pytest.mark.parametrize("seconds", SECONDS)
def test_who_waits_is_struck(seconds, child):
    cond, event, over = ctx.Condition(ctx.Lock()), ctx.Event(), ctx.Event()
    child(keep_notifying, cond, event, over)

    def wait(n):
        event.wait()
        with cond:
            return cond.wait(DEADLINE)

    assert all(storm(seconds, wait).values())
    over.set()
    assert repr(cond).endswith(", 0)>")
    with cond:
        pass
