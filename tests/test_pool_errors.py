"""Pools: what tasks raise, and what cannot be pickled or unpickled."""

import pickle

import pytest
from pool_targets import (
    LOCK,
    UNPICKLABLE,
    Custom,
    Unlucky,
    exits_in_reduce,
    fail_at_three,
    lambda_result,
    no_repr,
    pid_of_worker,
    raise_it,
    raise_needs_two,
    share,
    shared,
    square,
    unlucky,
)
from waiting import DEADLINE, wait_until

from fastmp import pool as pool_module

parent_only = pytest.mark.start_methods("fork")


def test_exceptions_have_the_remote_traceback_as_cause(pool):
    with pytest.raises(ValueError, match="three") as caught:
        pool.apply(fail_at_three, (3,))
    cause = caught.value.__cause__
    assert isinstance(cause, pool_module.RemoteTraceback)
    assert "in fail_at_three" in str(cause)
    assert 'raise ValueError("three")' in str(cause)
    assert "fastmp/pool.py" not in str(cause)
    with pytest.raises(ValueError, match="three") as caught:
        pool.map(fail_at_three, range(10))
    assert "in fail_at_three" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "e",
    [SystemExit(4), KeyboardInterrupt(), GeneratorExit(), Custom("x"), StopIteration(5), OSError(2, "no")],
)
def test_anything_can_be_raised(pool, e):
    pids = {w.pid for w in pool._pool}
    with pytest.raises(type(e)) as caught:
        pool.apply(raise_it, (e,))
    assert caught.value.args == e.args
    result = pool.map_async(raise_it, [e, e], 1)
    result.wait(DEADLINE)
    assert not result.successful()
    assert {pool.apply(pid_of_worker) for _ in range(10)} <= pids


def test_a_task_that_cannot_be_pickled(pool):
    result = pool.apply_async(lambda lock=LOCK: 0)
    with pytest.raises(UNPICKLABLE):
        result.get(DEADLINE)
    with pytest.raises(UNPICKLABLE):
        pool.map(lambda x, lock=LOCK: x, range(10))
    with pytest.raises(UNPICKLABLE):
        next(pool.imap(lambda x, lock=LOCK: x, range(10)))
    with pytest.raises(UNPICKLABLE):
        next(pool.imap(lambda x, lock=LOCK: x, iter(range(10))))
    it = pool.imap(type, [1, LOCK, 2])
    assert next(it) is int
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        next(it)
    assert next(it) is int
    wait_until(lambda: not pool._cache)


def test_a_task_that_cannot_be_unpickled(pool):
    pids = {w.pid for w in pool._pool}
    with pytest.raises(RuntimeError, match="no unpickling of this result") as caught:
        pool.apply(type, (Unlucky(),))
    assert "_no_unpickling" in str(caught.value.__cause__)
    it = pool.imap(type, [1, Unlucky(), 2])
    assert next(it) is int
    with pytest.raises(RuntimeError):
        next(it)
    assert next(it) is int
    assert {w.pid for w in pool._pool} == pids


@pytest.mark.parametrize("function", [lambda_result, no_repr, exits_in_reduce])
def test_a_result_that_cannot_be_pickled(pool, function):
    with pytest.raises(pool_module.MaybeEncodingError, match="Error sending result") as caught:
        pool.apply(function)
    assert caught.value.exc
    assert caught.value.value
    assert repr(caught.value).startswith("<MaybeEncodingError: ")
    assert pool.apply(square, (2,)) == 4


def test_an_exception_that_cannot_be_pickled(ctx):
    class Local(Exception):
        pass

    with (
        ctx.Pool(1, share, ("local", Local)) as p,
        pytest.raises(pool_module.MaybeEncodingError, match="Local") as caught,
    ):
        p.apply(raise_local)
    assert "raise_local" in str(caught.value.__cause__)


def raise_local():
    raise shared["local"]("local")


def test_a_result_that_cannot_be_unpickled(pool):
    with pytest.raises(pool_module.MaybeDecodingError, match="unlucky") as caught:
        pool.apply(unlucky)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "no unpickling" in str(caught.value.__cause__)
    it = pool.imap(unlucky, [1, 2])
    for _ in range(2):
        with pytest.raises(pool_module.MaybeDecodingError):
            next(it)
    with pytest.raises(pool_module.MaybeDecodingError):
        pool.map(unlucky, range(5))
    assert pool.apply(square, (2,)) == 4


def test_an_exception_that_cannot_be_unpickled(pool):
    with pytest.raises(pool_module.MaybeDecodingError) as caught:
        pool.apply(raise_needs_two)
    reason = caught.value.__cause__
    assert isinstance(reason, TypeError)
    assert "raise_needs_two" in str(reason.__cause__)  # where the task raised is not lost
    assert "1 and 2" in str(reason.__cause__)


def test_errors_can_be_pickled():
    for e in [
        pool_module.WorkerDied(1, -9, "f"),
        pool_module.MaybeEncodingError(ValueError(1), "x"),
        pool_module.MaybeDecodingError(ValueError(1), "x"),
        pool_module.RemoteTraceback("text"),
    ]:
        copy = pickle.loads(pickle.dumps(e))
        assert type(copy) is type(e)
        assert str(copy) == str(e)
        assert copy.__dict__ == e.__dict__


def test_exception_with_traceback():
    try:
        raise_it(ValueError(5))
    except ValueError as e:
        wrapped = pool_module.ExceptionWithTraceback(e, e.__traceback__)
    copy = pickle.loads(pickle.dumps(wrapped))
    assert isinstance(copy, ValueError)
    assert copy.args == (5,)
    assert "in raise_it" in str(copy.__cause__)


@parent_only
def test_map_says_which_chunk_failed_first(pool):
    result = pool.map_async(fail_at_three, [3] * 10, 1)
    with pytest.raises(ValueError, match="three"):
        result.get(DEADLINE)
    assert not result.successful()
