"""A signal handler that strikes at any step of a call of a pool: it raises, uses the pool, or ends it.

Each test goes through all places of a call at which a handler can come (strikes.py)."""

import pytest
from pool_targets import square
from strikes import Struck, all_strikes, strike
from waiting import wait_until

import fastmp
from fastmp.dummy import Pool as ThreadPool
from fastmp.pool import PoolTerminated

KINDS = {"processes": lambda: fastmp.get_context("fork").Pool(2), "threads": lambda: ThreadPool(2)}
OFTEN = {
    "apply": (lambda p: p.apply(square, (3,)), 9),
    "apply with keywords": (lambda p: p.apply(int, ("12",), {"base": 3}), 5),
    "map": (lambda p: p.map(square, [1, 2, 3], 1), [1, 4, 9]),
    "imap": (lambda p: list(p.imap(square, [1, 2, 3])), [1, 4, 9]),
    "callback": (lambda p: p.apply_async(square, (3,), callback=str).get(), 9),
}
SELDOM = {
    "apply_async": (lambda p: p.apply_async(square, (3,)).get(), 9),
    "timeout": (lambda p: p.apply_async(square, (3,)).get(60), 9),
    "no task": (lambda p: p.map(square, []), []),
    "map of an iterator": (lambda p: p.map(square, iter([1, 2])), [1, 4]),
    "starmap": (lambda p: p.starmap(divmod, [(7, 2), (9, 4)]), [(3, 1), (2, 1)]),
    "map_async": (lambda p: p.map_async(square, [1, 2, 3], 2).get(), [1, 4, 9]),
    "map_async with a callback": (lambda p: p.map_async(square, [1, 2], 1, str).get(), [1, 4]),
    "imap in chunks": (lambda p: list(p.imap(square, [1, 2, 3], 2)), [1, 4, 9]),
    "imap of an iterator": (lambda p: list(p.imap(square, iter([1, 2, 3]))), [1, 4, 9]),
    "imap ahead": (lambda p: list(p.imap(square, iter([1, 2, 3]), buffersize=5)), [1, 4, 9]),
    "imap_unordered": (lambda p: sorted(p.imap_unordered(square, [1, 2, 3])), [1, 4, 9]),
}
CALLS = OFTEN | SELDOM
STRIDE = 3  # in the normal suite not all places are gone through
PARAMETERS = [
    *((call, STRIDE) for call in OFTEN),
    *(pytest.param(call, 1, marks=[pytest.mark.stress, pytest.mark.deadline(900)]) for call in CALLS),
]
each_call = pytest.mark.parametrize("call, stride", PARAMETERS)
each_stride = pytest.mark.parametrize(
    "stride", [STRIDE, pytest.param(1, marks=[pytest.mark.stress, pytest.mark.deadline(900)])]
)
each_kind = pytest.mark.parametrize("kind", KINDS)


def check_usable(pool):
    assert pool.map(square, [1, 2, 3], 1) == [1, 4, 9]
    assert pool.apply(square, (3,)) == 9
    assert list(pool.imap(square, iter([1, 2]))) == [1, 4]
    wait_until(lambda: not (pool._cache or pool._desk._feeds or pool._board.guarded))
    assert not pool._board.broken_off


@each_kind
@each_call
def test_a_handler_raises(kind, call, stride):
    function, _ = CALLS[call]
    with KINDS[kind]() as pool:
        for striker, k in all_strikes(stride):
            try:
                striker.run(k, lambda: function(pool), strike)
            except Struck:
                pass
            else:
                assert not striker.struck, striker.place
            check_usable(pool)
    pool.join()


@each_kind
@each_call
def test_a_handler_uses_the_pool(kind, call, stride):
    function, expected = CALLS[call]
    got = []

    def use():
        got.append(pool.map(abs, [-1, 2]))
        got.append(list(pool.imap(abs, iter([-3]))))

    with KINDS[kind]() as pool:
        for striker, k in all_strikes(stride):
            got.clear()
            assert striker.run(k, lambda: function(pool), use) == expected, striker.place
            assert got == ([[1, 2], [3]] if striker.struck else []), striker.place
            check_usable(pool)
    pool.join()


@each_kind
@each_call
@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_a_handler_ends_the_pool(kind, call, stride, verb):
    """The call gets its result, or is told that it will not come."""
    function, expected = CALLS[call]

    def end():
        getattr(pool, verb)()
        pool.join()

    for striker, k in all_strikes(stride):
        with KINDS[kind]() as pool:
            try:
                assert striker.run(k, lambda pool=pool: function(pool), end) == expected, striker.place
            except (ValueError, PoolTerminated):
                assert striker.struck
            if striker.struck:
                assert not pool._supervisor.is_alive()
                assert not any(worker.is_alive() for worker in pool._pool if kind == "processes")
        pool.join()


@each_kind
@each_stride
@pytest.mark.parametrize("verb", ["close", "terminate"])
@pytest.mark.parametrize("raises", [True, False])
def test_a_handler_ends_the_pool_that_is_being_ended(kind, stride, verb, raises):
    def end():
        getattr(pool, verb)()
        pool.join()

    def end_again():
        if raises:
            raise Struck
        pool.terminate()
        pool.join()

    for striker, k in all_strikes(stride):
        pool = KINDS[kind]()
        pool.apply_async(square, (3,))
        try:
            striker.run(k, end, end_again)
        except Struck:
            assert raises
        else:
            assert not (raises and striker.struck), striker.place
        pool.terminate()
        pool.join()
        assert not pool._supervisor.is_alive()
        assert not any(worker.is_alive() for worker in pool._pool if kind == "processes")
