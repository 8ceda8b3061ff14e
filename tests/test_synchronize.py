"""Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event and Barrier between processes."""

import os
import signal
import threading
import time
import warnings
import weakref

import pytest
from processes import asleep
from waiting import DEADLINE, join

import fastmp
from fastmp import _core


def interrupt_when_asleep(pid, about_to_block):
    os.read(about_to_block, 1)
    while not asleep(pid):
        os.sched_yield()
    os.kill(pid, signal.SIGINT)


def interrupted_in(call):
    """SIGINT this process as soon as `call` blocks, and expect KeyboardInterrupt out of it.

    Another process strikes. A thread would make this one wait for the interpreter's lock, and could
    take that for the call, and strike where exceptions are lost: in a finalizer, say.
    """
    told, tell = os.pipe()
    striker = fastmp.get_context("fork").Process(target=interrupt_when_asleep, args=(os.getpid(), told))
    striker.start()
    with pytest.raises(KeyboardInterrupt):
        os.write(tell, b".")
        call()
    join(striker)
    os.close(told)
    os.close(tell)


# ---- Lock and RLock -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_acquire_and_release(ctx, kind):
    lock = getattr(ctx, kind)()
    assert lock.acquire() is True
    assert lock.locked() is True
    assert lock.release() is None
    assert lock.locked() is False
    with lock as held:
        assert held is True
        assert lock.locked()
    assert lock.acquire(False) is True
    lock.release()
    assert lock.acquire(block=True, timeout=None) is True
    lock.release()


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
@pytest.mark.parametrize("timeout", [0, -1, 0.01, 0.01 + 1e-9])
def test_acquire_times_out(ctx, kind, timeout):
    lock = getattr(ctx, kind)()
    lock.acquire()
    assert lock.acquire(timeout=timeout) is False
    assert lock.acquire(True, timeout) is False
    assert lock.acquire(False, 100) is False  # without block the timeout doesn't count


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Event", "Condition", "Barrier"])
def test_wrong_arguments(ctx, kind):
    lock = getattr(ctx, kind)(*([2] if kind == "Barrier" else []))
    wait = getattr(lock, "acquire", None) or lock.wait
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
        wait(timeout="soon")
    with pytest.raises(TypeError):
        wait(patience=3)
    with pytest.raises(TypeError):
        wait(1, 2, 3)
    with pytest.raises(ValueError, match="NaN"):
        wait(timeout=float("nan"))


def test_lock_is_released_by_another_process(ctx, start):
    lock = ctx.Lock()
    lock.acquire()
    join(start(lock.release))
    assert lock.acquire(timeout=DEADLINE)


def test_release_of_a_free_lock(ctx):
    with pytest.raises(ValueError, match="released too many times"):
        ctx.Lock().release()


def test_rlock_counts(ctx):
    lock = ctx.RLock()
    for _ in range(3):
        assert lock.acquire()
    assert repr(lock) == "<RLock(MainProcess, 3)>"
    for _ in range(3):
        lock.release()
    with pytest.raises(AssertionError, match="not owned by thread"):
        lock.release()


def refused(lock):
    try:
        lock.release()
    except AssertionError:
        os._exit(3)


def test_rlock_is_released_by_its_owner_only(ctx, start):
    lock = ctx.RLock()
    lock.acquire()
    join(start(refused, lock), 3)
    thread = threading.Thread(target=lambda: lock.acquire(False) and lock.release())
    thread.start()
    thread.join(DEADLINE)
    assert lock.locked()
    lock.release()


def hold(lock, held):
    lock.acquire()
    held.set()
    signal.pause()


def test_rlock_recovers_from_a_killed_owner(ctx, start):
    lock, held = ctx.RLock(), ctx.Event()
    child = start(hold, lock, held)
    assert held.wait(DEADLINE)
    assert not lock.acquire(False)
    child.kill()
    join(child, -signal.SIGKILL)
    assert lock.acquire(timeout=DEADLINE)
    assert repr(lock) == "<RLock(MainProcess, 1)>"
    lock.release()


def test_rlock_recovers_while_another_waits(ctx, start):
    lock, held = ctx.RLock(), ctx.Event()
    child = start(hold, lock, held)
    assert held.wait(DEADLINE)
    waiter = start(lock.acquire)
    child.kill()
    join(waiter)
    child.join(DEADLINE)
    assert lock.acquire(timeout=DEADLINE)  # the waiter ended with it


def test_lock_stays_with_a_killed_owner(ctx, start):
    lock, held = ctx.Lock(), ctx.Event()
    child = start(hold, lock, held)
    assert held.wait(DEADLINE)
    child.kill()
    join(child, -signal.SIGKILL)
    assert not lock.acquire(timeout=0.01)
    lock.release()
    assert lock.acquire(False)


def test_robust_lock_recovers_from_a_killed_owner(ctx, start):
    lock, held = ctx.Lock(robust=True), ctx.Event()
    child = start(hold, lock, held)
    assert held.wait(DEADLINE)
    assert not lock.acquire(False)
    child.kill()
    join(child, -signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="a process was killed that held <Lock") as warned:
        assert lock.acquire(timeout=DEADLINE)
    assert len(warned) == 1
    assert lock.recovered
    lock.release()
    assert not lock.recovered
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lock:
            assert not lock.recovered


def test_a_recovery_that_may_not_be_ignored_is_seen_by_the_next(ctx, start):
    lock, held = ctx.Lock(robust=True), ctx.Event()
    child = start(hold, lock, held)
    assert held.wait(DEADLINE)
    child.kill()
    join(child, -signal.SIGKILL)
    with warnings.catch_warnings(), pytest.raises(RuntimeWarning):
        warnings.simplefilter("error")
        lock.acquire()
    assert not lock.locked()
    with lock:
        assert lock.recovered
    assert not lock.recovered


def test_robust_lock_is_released_by_its_owner_only(ctx, start):
    lock = ctx.Lock(robust=True)
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()
    with lock:
        join(start(refused, lock), 3)
        assert lock.locked()
    assert not lock.locked()
    assert not ctx.Lock().recovered


def add(lock, value, times):
    for _ in range(times):
        with lock:
            value.value += 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_mutual_exclusion(ctx, start, kind):
    lock, value = getattr(ctx, kind)(), ctx.RawValue("i")
    for child in [start(add, lock, value, 2000) for _ in range(4)]:
        join(child)
    assert value.value == 8000


def test_lock_reprs(ctx, start):
    lock, held = ctx.Lock(), ctx.Event()
    assert repr(lock) == "<Lock(owner=None)>"
    with lock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(repr(lock)))
        thread.start()
        thread.join()
        assert seen == ["<Lock(owner=SomeOtherThread)>"]
    thread = threading.Thread(target=lock.acquire, name="T")
    thread.start()
    thread.join()
    lock.release()
    rlock = ctx.RLock()
    assert repr(rlock) == "<RLock(None, 0)>"
    child = start(hold, rlock, held)
    assert held.wait(DEADLINE)
    assert repr(rlock) == "<RLock(SomeOtherProcess, nonzero)>"
    child.kill()
    join(child, -signal.SIGKILL)


def test_locks_are_weakly_referenced_and_subclassed(ctx):
    class Named(fastmp.synchronize.Lock):
        def __init__(self, name):
            super().__init__()
            self.name = name

    lock = Named("a")
    with lock:
        assert repr(lock) == "<Named(owner=MainProcess)>"
    reference = weakref.ref(lock)
    del lock
    assert reference() is None


def test_init_forgotten():
    class Broken(fastmp.synchronize.Lock):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Broken().acquire()


def test_locks_are_not_pickled_outside_of_spawning(ctx):
    import pickle

    for thing in [ctx.Lock(), ctx.RLock(), ctx.Semaphore(), ctx.Event(), ctx.Condition(), ctx.Barrier(1)]:
        with pytest.raises(RuntimeError, match="through inheritance"):
            pickle.dumps(thing)


def test_objects_are_freed_with_their_last_holder(ctx):
    before = _core.arena_info()["objects"]
    things = [ctx.Lock() for _ in range(1000)]
    assert _core.arena_info()["objects"] == before + 1000
    del things
    assert _core.arena_info()["objects"] == before


# ---- semaphores --------------------------------------------------------------------------------------


def test_semaphore_value(ctx):
    semaphore = ctx.Semaphore(2)
    assert semaphore.get_value() == 2
    assert repr(semaphore) == "<Semaphore(value=2)>"
    assert semaphore.acquire() and semaphore.acquire()
    assert semaphore.get_value() == 0
    assert semaphore.acquire(False) is False
    for _ in range(3):
        semaphore.release()
    assert semaphore.get_value() == 3


def test_bounded_semaphore(ctx):
    semaphore = ctx.BoundedSemaphore(2)
    assert repr(semaphore) == "<BoundedSemaphore(value=2, maxvalue=2)>"
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    with semaphore:
        assert semaphore.get_value() == 1
    assert semaphore.get_value() == 2


@pytest.mark.parametrize(("value", "error"), [(-1, OSError), (1 << 40, OverflowError), ("a", TypeError)])
def test_semaphore_bad_value(ctx, value, error):
    with pytest.raises(error):
        ctx.Semaphore(value)


def test_semaphore_limits_how_many_are_inside(ctx, start):
    semaphore, inside, most = ctx.Semaphore(2), ctx.Value("i"), ctx.Value("i")

    def enter():
        for _ in range(200):
            with semaphore:
                with inside.get_lock():
                    inside.value += 1
                    most.value = max(most.value, inside.value)
                with inside.get_lock():
                    inside.value -= 1

    for child in [start(enter) for _ in range(5)]:
        join(child)
    assert 1 <= most.value <= 2
    assert semaphore.get_value() == 2


# ---- Event ---------------------------------------------------------------------------------------------


def test_event(ctx):
    event = ctx.Event()
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.wait(0.01) is False
    event.set()
    assert event.is_set() is True
    assert event.wait() is True
    assert event.wait(-1) is True
    event.clear()
    assert event.is_set() is False
    assert "unset" in repr(event) and repr(event).startswith("<Event at 0x")


def test_event_set_and_cleared_wakes_all_who_wait(ctx, start):
    event, ready = ctx.Event(), ctx.Semaphore(0)

    def wait():
        ready.release()
        assert event.wait(DEADLINE)

    children = [start(wait) for _ in range(4)]
    for _ in children:
        assert ready.acquire(timeout=DEADLINE)
    while any(child.is_alive() for child in children):
        event.set()
        event.clear()
    for child in children:
        join(child)


# ---- Condition --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_sleeping_count", "_woken_count", "_wait_semaphore"])
def test_a_condition_has_no_semaphores_to_count_with(ctx, name):
    with pytest.raises(NotImplementedError):
        getattr(ctx.Condition(), name).get_value()


def wait_in(condition, waiting, woken):
    with condition:
        waiting.release()
        condition.wait()
        woken.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock", None])
def test_notify_wakes_as_many_as_asked(ctx, start, kind):
    condition = ctx.Condition(getattr(ctx, kind)()) if kind else ctx.Condition()
    waiting, woken = ctx.Semaphore(0), ctx.Semaphore(0)
    children = [start(wait_in, condition, waiting, woken) for _ in range(5)]
    for _ in children:
        assert waiting.acquire(timeout=DEADLINE)
    with condition:
        assert repr(condition).endswith(", 5)>")
        condition.notify(2)
    for _ in range(2):
        assert woken.acquire(timeout=DEADLINE)
    with condition:
        assert repr(condition).endswith(", 3)>")
        condition.notify()
        condition.notify_all()
    for _ in range(3):
        assert woken.acquire(timeout=DEADLINE)
    for child in children:
        join(child)
    assert woken.get_value() == 0


def test_a_killed_waiter_is_passed_over(ctx, start):
    condition, waiting, woken = ctx.Condition(), ctx.Semaphore(0), ctx.Semaphore(0)
    first = start(wait_in, condition, waiting, woken)
    assert waiting.acquire(timeout=DEADLINE)
    second = start(wait_in, condition, waiting, woken)
    assert waiting.acquire(timeout=DEADLINE)
    with condition:
        pass  # now both are asleep
    first.kill()
    join(first, -signal.SIGKILL)
    with condition:
        condition.notify()
    join(second)


def test_condition_timeouts(ctx):
    condition = ctx.Condition()
    with condition:
        assert condition.wait(0) is False
        assert condition.wait(0.01) is False
        assert condition.wait_for(lambda: 0, timeout=0.01) == 0
        assert condition.wait_for(lambda: 7) == 7
        assert repr(condition).endswith(", 0)>")


def test_condition_must_be_held(ctx):
    condition = ctx.Condition()
    for call in [
        condition.wait,
        condition.notify,
        condition.notify_all,
        lambda: condition.wait_for(lambda: 0),
    ]:
        with pytest.raises(AssertionError):
            call()


def test_condition_gives_back_every_level_of_its_rlock(ctx, start):
    lock = ctx.RLock()
    condition = ctx.Condition(lock)

    def notify():
        with condition:
            condition.notify()

    with lock, lock:
        child = start(notify)
        assert condition.wait(DEADLINE)
        assert repr(lock) == "<RLock(MainProcess, 2)>"
    assert not lock.locked()
    join(child)


def test_wait_for_sees_the_other_process(ctx, start):
    condition, value = ctx.Condition(), ctx.RawValue("i")

    def count():
        for _ in range(10):
            with condition:
                value.value += 1
                condition.notify_all()

    with condition:
        child = start(count)
        assert condition.wait_for(lambda: value.value >= 10, DEADLINE)
    join(child)


def test_condition_wants_a_lock(ctx):
    with pytest.raises(TypeError):
        ctx.Condition(threading.Lock())


# ---- Barrier ----------------------------------------------------------------------------------------------


def test_barrier_lets_all_pass_together(ctx, start):
    barrier, came, indices = ctx.Barrier(4), ctx.Value("i"), ctx.Queue()

    def pass_it():
        for turn in range(5):
            with came.get_lock():
                came.value += 1
            index = barrier.wait(DEADLINE)
            assert came.value >= 4 * (turn + 1)
            indices.put((turn, index))
            barrier.wait(DEADLINE)

    for child in [start(pass_it) for _ in range(4)]:
        join(child)
    assert sorted(indices.get_nowait() for _ in range(20)) == [(t, i) for t in range(5) for i in range(4)]


def test_barrier_action_runs_once(ctx, start):
    value = ctx.Value("i")

    def act():
        value.value += 1

    barrier = ctx.Barrier(3, act)
    for child in [start(barrier.wait) for _ in range(3)]:
        join(child)
    assert value.value == 1


def test_barrier_action_that_fails_breaks_it(ctx, start):
    def fail():
        raise KeyError

    barrier = ctx.Barrier(2, fail)

    def wait():
        try:
            barrier.wait(DEADLINE)
        except KeyError:
            os._exit(1)
        except threading.BrokenBarrierError:
            os._exit(2)

    children = [start(wait) for _ in range(2)]
    for child in children:
        child.join(DEADLINE)
    assert sorted(child.exitcode for child in children) == [1, 2]
    assert barrier.broken


def test_barrier_timeout_breaks_it(ctx):
    barrier = ctx.Barrier(2, timeout=0.01)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    assert repr(barrier).endswith("broken>")
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0)
    barrier.reset()
    assert not barrier.broken
    assert repr(barrier).endswith("waiters=0/2>")


@pytest.mark.parametrize("end", ["reset", "abort"])
def test_barrier_that_ends_under_its_waiters(ctx, start, end):
    barrier = ctx.Barrier(3)

    def wait():
        try:
            barrier.wait(DEADLINE)
        except threading.BrokenBarrierError:
            os._exit(4)

    children = [start(wait) for _ in range(2)]
    while barrier.n_waiting < 2:
        assert all(child.is_alive() for child in children)
    getattr(barrier, end)()
    for child in children:
        join(child, 4)
    assert barrier.broken == (end == "abort")


def test_barrier_bad_arguments(ctx):
    for parties in [0, -1]:
        with pytest.raises(ValueError):
            ctx.Barrier(parties)
    with pytest.raises(TypeError):
        ctx.Barrier("two")


# ---- Ctrl-C -----------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_every_wait(ctx):
    lock, semaphore, event, condition = ctx.Lock(), ctx.Semaphore(0), ctx.Event(), ctx.Condition()
    barrier = ctx.Barrier(2)
    lock.acquire()
    interrupted_in(lock.acquire)
    interrupted_in(semaphore.acquire)
    interrupted_in(event.wait)
    interrupted_in(barrier.wait)
    assert barrier.n_waiting == 0
    with condition:
        interrupted_in(condition.wait)
        assert repr(condition) == "<Condition(<RLock(MainProcess, 1)>, 0)>"
    interrupted_in(lambda: lock.acquire(timeout=DEADLINE))


def test_a_signal_handler_that_returns_does_not_end_a_wait(ctx):
    event, seen = ctx.Event(), []

    def handle(signum, frame):
        seen.append(signum)
        if len(seen) == 3:
            event.set()

    old = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        assert event.wait(DEADLINE) is True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert len(seen) >= 3


def test_idle_waiters_cost_next_to_nothing(ctx):
    event = ctx.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    began = time.thread_time(), time.process_time()
    event.wait(0.5)
    event.set()
    thread.join(DEADLINE)
    assert time.process_time() - began[1] < 0.25  # two waiters, half a second: a busy wait takes all of it
