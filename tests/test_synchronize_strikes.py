"""A signal handler that strikes at any step of the use of a lock or its kin: it raises, or uses the object.

A lock that `with` takes is free again then, no permit is lost, no notification, and nobody waits for ever."""

import contextlib
import threading

import pytest
from strikes import Struck, all_strikes, strike, strike_asleep
from targets import DEADLINE
from waiting import wait_until

import fastmp
from fastmp.synchronize import RECURSIVE_MUTEX, SEMAPHORE, SemLock

ctx, spawning = fastmp.get_context("fork"), fastmp.get_context("spawn")
LOCKS = {
    "Lock": ctx.Lock,
    "robust Lock": lambda: ctx.Lock(robust=True),
    "RLock": ctx.RLock,
    "Semaphore": lambda: ctx.Semaphore(1),
    "BoundedSemaphore": lambda: ctx.BoundedSemaphore(1),
    "Condition": ctx.Condition,
    "Condition over a Lock": lambda: ctx.Condition(ctx.Lock()),
    "SemLock": lambda: SemLock(SEMAPHORE, 1, 1, ctx=ctx),
    "recursive SemLock": lambda: SemLock(RECURSIVE_MUTEX, 1, 1, ctx=ctx),
    "SemLock with a name": lambda: SemLock(SEMAPHORE, 1, 1, ctx=spawning),
}
CONDITIONS = {"an RLock": ctx.Condition, "a Lock": lambda: ctx.Condition(ctx.Lock())}
each_stride = pytest.mark.parametrize(
    "stride", [3, pytest.param(1, marks=[pytest.mark.stress, pytest.mark.deadline(900)])]
)
each_condition = pytest.mark.parametrize("condition", CONDITIONS)


def use(lock):
    with lock:
        assert lock.locked()


# ---- at any place -------------------------------------------------------------------------------------


@each_stride
@pytest.mark.parametrize("kind", LOCKS)
def test_the_making_is_struck(kind, stride):
    for striker, k in all_strikes(stride, __file__):
        with contextlib.suppress(Struck):
            striker.run(k, LOCKS[kind], strike)


@each_stride
@pytest.mark.parametrize("kind", LOCKS)
def test_a_with_is_struck(kind, stride):
    lock = LOCKS[kind]()
    for striker, k in all_strikes(stride, __file__):
        try:
            striker.run(k, lambda: use(lock), strike)
        except Struck:
            pass
        else:
            assert not striker.struck, striker.place
        assert not lock.locked(), striker.place
        use(lock)


@each_stride
@pytest.mark.parametrize("kind", ["RLock", "Condition", "recursive SemLock"])
def test_a_handler_takes_a_recursive_lock(kind, stride):
    lock = LOCKS[kind]()
    for striker, k in all_strikes(stride, __file__):
        striker.run(k, lambda: use(lock), lambda: use(lock))
        assert not lock.locked(), striker.place


@each_stride
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_a_repr_is_struck(kind, stride):
    """It asks for the names of the process and the thread, and goes no further than it gets."""
    lock = getattr(fastmp, kind)()
    with lock:
        for striker, k in all_strikes(stride):
            with contextlib.suppress(Struck):
                assert "MainProcess" in striker.run(k, lambda: repr(lock), strike), striker.place


@each_stride
@each_condition
def test_a_predicate_is_struck(condition, stride):
    cond = CONDITIONS[condition]()
    answers = []

    def wait():
        with cond:
            answers.extend([False, True])
            assert cond.wait_for(lambda: answers.pop(0), timeout=0)

    for striker, k in all_strikes(stride, __file__):
        with contextlib.suppress(Struck, AssertionError):
            striker.run(k, wait, strike)
        answers.clear()
        assert not cond.locked(), striker.place
        assert ", 0)" in repr(cond)


@each_stride
def test_the_action_of_a_barrier_is_struck(stride):
    """The barrier is broken then, or all have passed."""
    for striker, k in all_strikes(stride, __file__):
        barrier = ctx.Barrier(1, lambda: sum([1, 2]))
        try:
            striker.run(k, barrier.wait, strike)
        except Struck:
            assert barrier.n_waiting == 0
            barrier.reset()
        assert barrier.wait() == 0


# ---- asleep -------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(in_thread):
    """A function that has a thread hold a lock; the one that it returns makes the thread let go."""
    wishes = []

    def hold(lock):
        held, wish = threading.Event(), threading.Event()
        wishes.append(wish)

        def run():
            with lock:
                held.set()
                wish.wait(DEADLINE)

        done = in_thread(run)
        assert held.wait(DEADLINE)

        def let_go():
            wish.set()
            done()

        return let_go

    yield hold
    for wish in wishes:
        wish.set()


@pytest.mark.parametrize(
    "call", [lambda lock: lock.acquire(), lambda lock: lock.acquire(timeout=DEADLINE), use]
)
@pytest.mark.parametrize("kind", LOCKS)
def test_an_acquire_is_struck(kind, call, elsewhere):
    lock = LOCKS[kind]()
    let_go = elsewhere(lock)
    with pytest.raises(Struck):
        strike_asleep(lambda: call(lock), lambda: None, strike)
    let_go()
    assert not lock.locked()
    use(lock)


@pytest.mark.parametrize("kind", LOCKS)
def test_a_handler_has_the_lock_let_go(kind, elsewhere):
    lock = LOCKS[kind]()
    strike_asleep(lambda: use(lock), elsewhere(lock))
    assert not lock.locked()


@pytest.mark.parametrize(
    "kind, keeps",
    [
        ("RLock", False),
        ("RLock", True),
        ("Condition", False),
        ("Condition", True),
        ("recursive SemLock", False),
    ],
)
def test_a_handler_takes_the_lock_that_is_waited_for(kind, keeps, elsewhere):
    lock = LOCKS[kind]()
    let_go = elsewhere(lock)

    def take():
        let_go()
        lock.acquire()
        if not keeps:
            lock.release()

    strike_asleep(lock.acquire, take)
    for _ in range(1 + keeps):
        assert lock.locked()
        lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("raises", [False, True])
def test_an_event_is_struck(raises):
    event = ctx.Event()
    if raises:
        with pytest.raises(Struck):
            strike_asleep(event.wait, strike)
        assert not event.is_set()
    else:
        assert strike_asleep(event.wait, event.set) is True


def waiters_of(cond):
    return int(repr(cond).rpartition(" ")[2].rstrip(")>"))


WAITS = {
    "wait": lambda cond: cond.wait(),
    "wait with a timeout": lambda cond: cond.wait(DEADLINE),
    "wait_for": lambda cond: cond.wait_for(lambda: False),
}


@each_condition
@pytest.mark.parametrize("call", WAITS)
def test_a_waiting_condition_is_struck(condition, call, in_thread):
    """It has the lock again, and who waits besides gets the notification."""
    cond = CONDITIONS[condition]()

    def wait_too():
        with cond:
            return cond.wait(DEADLINE)

    def wait():
        WAITS[call](cond)

    with cond:
        others = []
        with pytest.raises(Struck):
            strike_asleep(wait, lambda: others.append(in_thread(wait_too)), strike)
        assert cond._lock._is_mine()
        assert cond._lock._count() == 1
    for done in others:
        wait_until(lambda: waiters_of(cond) == 1)
        with cond:
            cond.notify()
        assert done() is True


@each_condition
@pytest.mark.parametrize("raises", [False, True])
def test_a_condition_that_waits_for_its_lock_is_struck(condition, raises, in_thread):
    """It was notified, and so somebody else is in its place if it raises."""
    cond = CONDITIONS[condition]()
    seen, wish = [], threading.Event()

    def wait_too():
        with cond:
            seen.append("waits")
            seen.append(cond.wait(DEADLINE))

    def notify():
        with cond:
            cond.notify()
            seen.append("notified")
            wish.wait(DEADLINE)

    def start_others():
        waiting.append(in_thread(wait_too))
        wait_until(lambda: "waits" in seen)
        waiting.append(in_thread(notify))
        wait_until(lambda: "notified" in seen)

    def let_go():
        wish.set()
        if raises:
            raise Struck

    waiting = []
    with cond:
        with pytest.raises(Struck) if raises else contextlib.nullcontext():
            strike_asleep(cond.wait, start_others, let_go)
        assert cond._lock._is_mine()
        if not raises:
            cond.notify()
    for done in waiting:
        done()
    assert seen == ["waits", "notified", True]
    assert waiters_of(cond) == 0


@each_condition
@pytest.mark.parametrize("way", ["with", "release"])
def test_a_condition_is_struck_again_while_it_waits_for_its_lock(condition, way, elsewhere):
    """The lock is another's: it is not given back, and it is the handler's exception that comes out."""
    cond = CONDITIONS[condition]()
    holders = []

    def have_it_taken():
        holders.append(elsewhere(cond))
        raise Struck

    def wait():
        strike_asleep(cond.wait, have_it_taken, strike)

    with pytest.raises(Struck):
        if way == "with":
            with cond:
                wait()
        else:
            cond.acquire()
            try:
                wait()
            finally:
                cond.release()
    assert cond.locked()
    assert not cond._lock._is_mine()
    holders.pop()()
    assert not cond.locked()
    use(cond)
    assert not cond.locked()


@each_condition
def test_a_handler_notifies(condition):
    cond = CONDITIONS[condition]()

    def notify():
        with cond:
            cond.notify()

    with cond:
        assert strike_asleep(cond.wait, notify) is True
    assert not cond.locked()


def test_a_handler_takes_the_lock_of_a_condition_and_keeps_it():
    cond = ctx.Condition()

    def notify():
        cond.acquire()
        cond.notify()

    with cond:
        assert strike_asleep(cond.wait, notify) is True
        assert cond._lock._count() == 2
        cond.release()
    assert not cond.locked()


def test_a_depth_of_two_is_restored():
    cond = ctx.Condition()
    with cond, cond:
        with pytest.raises(Struck):
            strike_asleep(cond.wait, strike)
        assert cond._lock._count() == 2
    assert not cond.locked()


def test_a_condition_over_a_robust_lock_is_not_recursive():
    cond = ctx.Condition(ctx.Lock(robust=True))
    with cond, pytest.raises(Struck):
        strike_asleep(cond.__enter__, strike)
    assert not cond.locked()


def test_a_waiting_barrier_is_struck(in_thread):
    """Who does not wait any more has not come: the barrier needs as many as before."""
    barrier = ctx.Barrier(2)
    with pytest.raises(Struck):
        strike_asleep(barrier.wait, strike)
    assert (barrier.n_waiting, barrier.broken) == (0, False)
    other = in_thread(barrier.wait, DEADLINE)
    assert {barrier.wait(DEADLINE), other()} == {0, 1}


@pytest.mark.parametrize("verb", ["abort", "reset"])
def test_a_handler_breaks_the_barrier(verb):
    barrier = ctx.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        strike_asleep(barrier.wait, getattr(barrier, verb))
    assert barrier.broken == (verb == "abort")


def test_a_handler_comes_to_the_barrier():
    barrier = ctx.Barrier(2)
    seen = []
    assert strike_asleep(barrier.wait, lambda: seen.append(barrier.wait())) == 0
    assert seen == [1]
