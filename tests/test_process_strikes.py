"""A signal handler that raises at any step of what is done with a process: nothing is lost, nothing is left.

Each test goes through all places of a call at which a handler can come (strikes.py), or every n-th."""

import signal

import pytest
from leftovers import Snapshot
from strikes import Struck, all_strikes, strike
from targets import DEADLINE, sleep_long
from waiting import join

import fastmp
from fastmp import resource_tracker
from fastmp.forkserver import _forkserver

USES = {
    "join": (int, lambda child: child.join(DEADLINE)),
    "join for a while": (sleep_long, lambda child: child.join(0.001)),
    "is_alive": (sleep_long, lambda child: child.is_alive()),
    "exitcode": (sleep_long, lambda child: child.exitcode),
    "terminate": (sleep_long, lambda child: child.terminate()),
    "active_children": (sleep_long, lambda child: fastmp.active_children()),
    "wait": (int, lambda child: fastmp.connection.wait([child.sentinel], DEADLINE)),
    "close": (int, lambda child: child.close()),
}


def blocked_signals():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def strides(seldom, always=1):
    """Every n-th place in the normal suite; all of them, or still only every m-th, in the exhaustive one."""
    stress = pytest.param(always, marks=[pytest.mark.stress, pytest.mark.deadline(1800)])
    return pytest.mark.parametrize("stride", [seldom, stress])


def strikes_of(call, stride, *, before=lambda: None):
    """Strike a call, each time after `before`. Whoever loops ends what is there then: nothing is left."""
    snapshot, blocked = Snapshot(), blocked_signals()
    for striker, k in all_strikes(stride):
        before()
        try:
            striker.run(k, call, strike)
        except Struck:
            pass
        else:
            assert not striker.struck, f"lost: {striker.place}"
        assert blocked_signals() == blocked, striker.place
        yield striker
        left = snapshot.leftovers_in_the_end()
        assert not left, (striker.place, left)


def end(child):
    """What start() has left is known, if there is anything."""
    assert (child.pid is not None) == (child in fastmp.active_children())
    if child.pid is not None:
        child.kill()
        child.join(DEADLINE)
        child.close()


def check_start(ctx, stride, before=lambda: None, after=lambda: None):
    def start():
        nonlocal child
        child = ctx.Process(target=sleep_long)
        child.start()

    child = ctx.Process()
    for striker in strikes_of(start, stride, before=before):
        assert striker.struck or child.is_alive()
        end(child)
        after()
    child = ctx.Process(target=int)
    child.start()
    join(child)


@pytest.mark.start_methods("fork")
@strides(1)
def test_start_by_fork(ctx, stride):
    check_start(ctx, stride)


@pytest.mark.start_methods("spawn", "forkserver")
@strides(19)
def test_start(ctx, stride):
    check_start(ctx, stride)


@pytest.mark.start_methods("spawn", "forkserver")
@pytest.mark.stress
@pytest.mark.deadline(1800)
def test_start_of_one_that_is_there_ahead(ctx, start_method):
    stride = {"spawn": 13, "forkserver": 1}[start_method]
    check_start(ctx, stride, lambda: ctx.set_standby(1, wait=True), lambda: ctx.set_standby(0))


@pytest.mark.start_methods("forkserver")
@strides(301, 3)
def test_start_of_the_server(ctx, stride):
    check_start(ctx, stride, _forkserver._stop)


@strides(11)
def test_start_of_the_resource_tracker(stride):
    tracker = resource_tracker.ResourceTracker()
    for _ in strikes_of(tracker.ensure_running, stride):
        tracker.ensure_running()
        tracker._stop()


@pytest.mark.start_methods("fork")
@strides(11)
def test_start_of_a_pool(ctx, stride):
    def start():
        pools.append(ctx.Pool(2))

    pools = []
    for striker in strikes_of(start, stride):
        assert striker.struck or pools
        while pools:
            pools[0].terminate()
            pools.pop().join()


@strides(7)
@pytest.mark.parametrize("use", USES)
def test_uses(ctx, use, stride):
    def renew():
        nonlocal child
        child = ctx.Process(target=target)
        child.start()
        if use == "close":
            child.join(DEADLINE)

    target, call = USES[use]
    child = ctx.Process()
    for striker in strikes_of(lambda: call(child), stride, before=renew):
        if use == "close":
            child.close()
        else:
            child.kill()
            child.join(DEADLINE)
            assert child.exitcode in ((0, -9) if target is int else (-9, -15)), striker.place
            assert child not in fastmp.active_children()
            child.close()
