"""Objects that raise while they are pickled or unpickled, whatever they raise, and objects that recurse.

The exception comes to who put, sent, asked or waited; everybody else goes on, and nothing leaks.
"""

import gc
import os
import pickle
import sys

import pytest

import fastmp
from fastmp import _core
from fastmp.managers import RemoteError
from fastmp.pool import MaybeDecodingError, MaybeEncodingError

KINDS = [
    *(ValueError, OSError, EOFError, StopIteration, RecursionError, MemoryError),
    *(KeyboardInterrupt, SystemExit, GeneratorExit),
]


def explode(kind):
    raise kind("bomb")


class Unpicklable:
    """Raises when it is pickled."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        explode(self.kind)


class Unloadable(Unpicklable):
    """Raises when it is unpickled."""

    def __reduce__(self):
        return explode, (self.kind,)


class Endless:
    """Its parts have parts."""

    def __reduce__(self):
        return Endless, (Endless(),)


class Torn:
    """Its buffer can't be sent: its bytes do not lie in one piece."""

    def __reduce_ex__(self, protocol):
        return bytes, (pickle.PickleBuffer(memoryview(bytes(100_000))[::2]),)


class Silent:
    """Can't be pickled, nor shown."""

    def __reduce__(self):
        raise ValueError("bomb")

    def __repr__(self):
        raise SystemExit("bomb")


class Comparable:
    __hash__ = None

    def __eq__(self, other):
        raise SystemExit("bomb")


class UnpicklableError(Exception):
    def __reduce__(self):
        raise SystemExit("bomb")


class UnloadableError(Exception):
    def __reduce__(self):
        return explode, (SystemExit,)


class IncompleteError(Exception):
    """Its arguments are not those of its class."""

    def __init__(self, one, other):
        super().__init__(one)


def same(obj):
    return obj


def make(cls, *args):
    return cls(*args)


def throw(cls, *args):
    raise cls(*args)


def figures():
    gc.collect()
    return _core.arena_info()


def twice_the_same(work):
    """Run it three times: after the second and the third, as much is in use, to the byte."""
    work()
    work()
    before = figures()
    work()
    assert figures() == before


# ---- queues and pipes ------------------------------------------------------------------------------


def ends_of(name):
    """What puts and what gets."""
    if name == "Pipe":
        reader, writer = fastmp.Pipe(duplex=False)
        return writer.send, reader.recv
    queue = getattr(fastmp, name)()
    return queue.put, queue.get


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue", "Pipe"])
def ends(request):
    return ends_of(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_pickled_is_not_put(ends, kind):
    put, get = ends
    bomb, lock = Unpicklable(kind), fastmp.Lock()

    def work():
        with pytest.raises(kind, match="bomb"):
            put((lock, bomb))
        put("next")
        assert get() == "next"

    references = sys.getrefcount(bomb)
    twice_the_same(work)
    assert sys.getrefcount(bomb) == references


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_unpickled_is_raised_and_gone(ends, kind):
    put, get = ends
    lock = fastmp.Lock()

    def work():
        put((lock, Unloadable(kind)))
        put("next")
        with pytest.raises(kind, match="bomb"):
            get()
        assert get() == "next"

    twice_the_same(work)


@pytest.mark.parametrize(("bomb", "error"), [(Endless(), RecursionError), (Torn(), pickle.PicklingError)])
def test_objects_without_end_or_in_pieces(ends, bomb, error):
    put, get = ends

    def work():
        with pytest.raises(error):
            put(bomb)
        put("next")
        assert get() == "next"

    twice_the_same(work)


def nested(depth):
    obj = []
    for _ in range(depth):
        obj = [obj]
    return obj


def test_nesting_deeper_than_the_stack(ends):
    put, get = ends
    deep = nested(100_000)
    with pytest.raises(RecursionError):
        put(deep)
    while deep:  # not all at once
        deep = deep.pop()
    around = []
    around.append(around)
    put(around)
    assert get()[0][0][0] is not None


# ---- pools -----------------------------------------------------------------------------------------


@pytest.fixture
def pool(ctx):
    """A pool of one worker, which is never replaced."""
    with ctx.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        yield pool
        assert pool.apply(same, (1,)) == 1
        assert pool.apply(os.getpid) == worker


def test_arguments_and_results_of_a_pool(pool):
    for kind in KINDS:
        for bomb in Unpicklable(kind), Unloadable(kind):
            with pytest.raises((kind, pickle.PicklingError), match=r"bomb|recursion"):
                pool.apply(same, (bomb,))
            with pytest.raises((kind, pickle.PicklingError), match=r"bomb|recursion"):
                pool.map(same, [1, bomb])
        with pytest.raises(MaybeEncodingError, match="bomb"):
            pool.apply(make, (Unpicklable, kind))
        with pytest.raises(MaybeDecodingError, match="bomb"):
            pool.apply(make, (Unloadable, kind))
        with pytest.raises(MaybeDecodingError, match="bomb"):
            pool.map(Unloadable, [kind, kind])
        with pytest.raises(kind, match="bomb"):
            pool.apply(explode, (kind,))
        assert pool.apply(same, (1,)) == 1


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.start_methods("fork")  # they come in as under the others
def test_results_that_nobody_waits_for(pool, kind):
    """They come in with those that somebody waits for, or in the pool's own thread."""
    called = []
    results = [
        pool.apply_async(make, (Unloadable, kind), error_callback=called.append),
        pool.apply_async(throw, (UnloadableError,), error_callback=called.append),
        pool.apply_async(make, (Unloadable, kind)),
    ]
    assert pool.apply(same, (1,)) == 1
    for result in results:
        with pytest.raises(MaybeDecodingError):
            result.get(30)
    assert len(called) == 2
    iterator = pool.imap(Unloadable, [kind, kind])
    assert pool.apply(same, (1,)) == 1
    for _ in range(2):
        with pytest.raises(MaybeDecodingError):
            next(iterator)


def test_odd_objects_in_a_pool(pool):
    for error in UnpicklableError, UnloadableError:
        with pytest.raises((MaybeEncodingError, MaybeDecodingError), match="bomb"):
            pool.apply(throw, (error,))
    with pytest.raises(MaybeDecodingError, match="IncompleteError"):
        pool.apply(throw, (IncompleteError, 1, 2))
    for cls in Silent, Endless, Torn:
        with pytest.raises(MaybeEncodingError):
            pool.apply(make, (cls,))
        with pytest.raises((ValueError, RecursionError, pickle.PicklingError)):
            pool.apply(same, (cls(),))


# ---- managers --------------------------------------------------------------------------------------


@pytest.fixture
def manager(ctx):
    with ctx.Manager() as manager:
        yield manager
        assert list(manager.list([1])) == [1]


def test_arguments_of_a_manager(manager):
    shared = manager.list([0])
    for kind in KINDS:
        with pytest.raises(kind, match="bomb"):
            shared.append(Unpicklable(kind))
        with pytest.raises(kind, match="bomb"):
            manager.list([Unpicklable(kind)])
        with pytest.raises(RemoteError, match="bomb"):
            shared.append(Unloadable(kind))
        with pytest.raises(RemoteError, match="bomb"):
            manager.list([Unloadable(kind)])
    with pytest.raises(RecursionError):
        shared.append(Endless())
    assert shared[:] == [0]


class Maker:
    """What a manager's method returns, or raises."""

    make = staticmethod(make)
    throw = staticmethod(throw)


class MakerManager(fastmp.managers.BaseManager):
    pass


MakerManager.register("Maker", Maker)


def test_results_of_a_manager(ctx):
    with MakerManager(ctx=ctx) as manager:
        maker = manager.Maker()
        for kind in KINDS:
            with pytest.raises(RemoteError, match="bomb"):
                maker.make(Unpicklable, kind)
            with pytest.raises(kind, match="bomb"):
                maker.make(Unloadable, kind)
        for error in UnpicklableError, UnloadableError:
            with pytest.raises(RemoteError, match="bomb"):
                maker.throw(error)
        with pytest.raises(RemoteError):
            maker.make(Endless)
        assert maker.make(int) == 0


def test_methods_that_raise_in_a_manager(manager):
    shared = manager.list([Comparable()])
    with pytest.raises(RemoteError, match="bomb"):
        shared.index(1)
    assert len(shared) == 1


# ---- processes -------------------------------------------------------------------------------------


@pytest.mark.start_methods("spawn", "forkserver")  # nothing is pickled for a fork
def test_arguments_of_a_process(ctx, finish, child_output):
    before = figures()
    for bomb in [*map(Unpicklable, KINDS), Endless()]:
        with pytest.raises(getattr(bomb, "kind", RecursionError)):
            ctx.Process(target=same, args=(ctx.Lock(), bomb)).start()
    children = [
        ctx.Process(target=same, args=(ctx.Lock(), Unloadable(kind)))
        for kind in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit)
    ]
    for child in children:
        child.start()
    finish(*children)
    assert all(child.exitcode != 0 for child in children)
    del child, children
    after = figures()
    assert {**after, "owners": 0} == {**before, "owners": 0}  # the fork server has come, perhaps
