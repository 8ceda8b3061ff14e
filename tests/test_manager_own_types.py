"""Managers of own types, own proxies and own registries."""

import pickle

import pytest
from manager_targets import Counter, CounterProxy, OwnManager
from waiting import wait_until

from fastmp.managers import BaseManager, RemoteError, SyncManager


@pytest.fixture
def own(ctx):
    with OwnManager(ctx=ctx) as manager:
        yield manager


def test_own_types(own):
    counter = own.Counter(5)
    assert counter.next() == 6
    assert type(counter).__name__ == "AutoProxy[Counter]"
    assert not hasattr(counter, "_hidden")
    with pytest.raises(RemoteError, match="is not in exposed"):
        counter._callmethod("_hidden")
    limited = own.Limited()
    assert (limited._hidden(), limited.next()) == ("hidden", 1)
    assert not hasattr(limited, "fork")
    proxied = own.Proxied(3)
    assert type(proxied) is CounterProxy
    assert (proxied.next(), len(proxied)) == (4, 4)


def test_proxies_may_forward_comparisons(ctx, report):
    class Compared(BaseManager):
        pass

    Compared.register("number", complex, exposed=("__eq__", "__hash__", "conjugate"))
    with Compared(ctx=ctx) as manager:
        one, two = manager.number(1), manager.number(2)
        assert one == 1
        assert one != two
        assert {one: "one"}[1] == "one"
        assert report(two.conjugate) == 2
        del one, two
        wait_until(lambda: manager._number_of_objects() == 0)


def test_methods_that_return_proxies(own):
    counter = own.Counter(2)
    other = counter.fork()
    other.next()
    assert (counter.next(), other.next()) == (3, 4)
    assert list(counter.values()) == [0, 1, 2]
    assert own._number_of_objects() == 2
    del other
    assert own._number_of_objects() == 1


def test_result_goes_through_the_callable_of_its_type(own):
    assert own.Summed(4).values().next() == 0 + 1 + 2 + 3 + 1


def test_one_object_with_two_proxies(own):
    first, second = own.the_counter(), own.the_counter()
    assert [first.next(), second.next(), first.next()] == [101, 102, 103]
    assert own._number_of_objects() == 1
    del first
    assert second.next() == 104
    del second
    assert own._number_of_objects() == 0


def test_registry_belongs_to_the_class():
    class Derived(OwnManager):
        pass

    Derived.register("more", list)
    assert "more" in Derived._registry
    assert "more" not in OwnManager._registry
    assert "Counter" in Derived._registry
    assert not hasattr(OwnManager, "more")
    assert Derived.more.__name__ == "more"


def fork_counter(counter):
    other = counter.fork()
    return [other.next(), list(counter.values())]


def test_proxies_from_methods_in_a_child(own, report):
    """gh-99595: a child has the proxy but not the manager."""
    assert report(fork_counter, own.Counter(2)) == [3, [0, 1]]
    loaded = pickle.loads(pickle.dumps(own.Counter(2)))
    assert loaded._manager is None
    assert fork_counter(loaded) == [3, [0, 1]]


def test_manager_class_that_cannot_be_found(ctx):
    class Local(BaseManager):
        pass

    Local.register("Counter", Counter, method_to_typeid={"fork": "Forked"})
    Local.register("Forked", create_method=False)
    with Local(ctx=ctx) as manager:
        loaded = pickle.loads(pickle.dumps(manager.Counter(1)))
        assert loaded.fork().next() == 2


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
def test_own_key(ctx, report, address):
    """gh-139801 and gh-78740: proxies that were pickled or nested, under a key of the manager's own."""
    with SyncManager(address, b"own key", ctx=ctx) as manager:
        items = pickle.loads(pickle.dumps(manager.list([1])))
        assert items[:] == [1]
        outer = manager.dict(inner=items)
        assert outer["inner"][0] == 1
        assert "ListProxy" in str(outer)
        rebuild, args = items.__reduce__()[:2]
        assert report(rebuild_and_get, rebuild, args) == [1]


def rebuild_and_get(rebuild, args):
    return rebuild(*args)[:]


def test_errors_that_do_not_travel(own):
    counter = own.Counter()
    with pytest.raises(RemoteError, match=r"Unserializable message[\s\S]*raise Broken"):
        counter.fail()
    with pytest.raises(RemoteError, match="Unserializable message"):
        counter.lock()
    with pytest.raises(RemoteError, match="SystemExit: 3"):
        counter.leave()
    assert counter.next() == 1
