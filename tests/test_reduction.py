"""Pickling for other processes: reducers, and descriptors that travel."""

import array
import contextlib
import copyreg
import functools
import io
import os
import pickle
import socket
import threading
import types

import pytest

from fastmp import _spawning, connection, reduction, resource_sharer
from fastmp.connection import Connection, Pipe
from fastmp.reduction import ForkingPickler


class Plain:
    def __init__(self, value=None):
        self.value = value

    def __eq__(self, other):
        return type(other) is type(self) and other.value == self.value

    def method(self):
        return "method"


class Special(Plain):
    """Has a reducer in some of the tests."""


class Nested(Plain):
    """Its reducer pickles."""


@pytest.fixture
def reducers():
    """Whatever is registered during the test is forgotten after it."""
    before, before_copyreg = dict(reduction._own), dict(copyreg.dispatch_table)
    yield
    for table, old in ((reduction._own, before), (copyreg.dispatch_table, before_copyreg)):
        table.clear()
        table.update(old)
    reduction._merged.clear()
    reduction._seen_copyreg = {}


@pytest.mark.parametrize(
    "obj",
    [
        None,
        True,
        -5,
        10**40,
        2.5,
        "text",
        b"bytes",
        (1, "a", [2, {3: 4}]),
        Plain([1]),
        bytes(1 << 20),
        [bytes(1 << 17), "x" * (1 << 17), bytes(1 << 17)],
        len,
        [].append,
        list.append,
        int.__add__,
        dict.fromkeys,
        Plain,
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_dumps_is_what_pickle_gives(obj):
    assert reduction.dumps(obj) == pickle.dumps(obj)
    assert bytes(ForkingPickler.dumps(obj)) == pickle.dumps(obj)


def test_methods_travel():
    assert reduction.loads(reduction.dumps(Plain().method))() == "method"
    assert reduction.loads(reduction.dumps(functools.partial(Plain, 3)))() == Plain(3)


def test_messages_do_not_share_a_memo():
    obj = Plain()
    first, second = reduction.dumps([obj, obj]), reduction.dumps([obj, obj])
    assert first == second == pickle.dumps([obj, obj])


def test_register_takes_effect_at_once(reducers):
    assert reduction.loads(reduction.dumps(Special(1))) == Special(1)
    ForkingPickler.register(Special, lambda obj: (Plain, (obj.value,)))
    assert reduction.loads(reduction.dumps(Special(1))) == Plain(1)
    assert pickle.loads(ForkingPickler.dumps(Special(1), 2)) == Plain(1)
    assert reduction.loads(reduction.dumps([Plain(1)])) == [Plain(1)]  # its own type only
    reduction.register(Special, lambda obj: (list, ((obj.value,),)))
    assert reduction.loads(reduction.dumps(Special(1))) == [1]


def test_reducers_of_copyreg_count(reducers):
    reduction.dumps([Special(1)])
    copyreg.pickle(Special, lambda obj: (Plain, (obj.value,)))
    assert reduction.loads(reduction.dumps(Special(1))) == Plain(1)
    copyreg.pickle(Special, lambda obj: (Plain, ("other",)))
    assert reduction.loads(reduction.dumps(Special(1))) == Plain("other")
    del copyreg.dispatch_table[Special]
    assert reduction.loads(reduction.dumps(Special(1))) == Special(1)


def test_reducers_of_the_standard_library_count(reducers, monkeypatch):
    theirs = types.ModuleType("multiprocessing.reduction")
    theirs.ForkingPickler = types.SimpleNamespace(
        _extra_reducers={Special: lambda obj: (Plain, ("theirs",)), Nested: lambda obj: (Plain, ("theirs",))}
    )
    monkeypatch.setitem(reduction._modules, "multiprocessing.reduction", theirs)
    ForkingPickler.register(Nested, lambda obj: (Plain, ("ours",)))
    assert reduction.loads(reduction.dumps([Special(), Nested()])) == [Plain("theirs"), Plain("ours")]
    monkeypatch.setitem(reduction._modules, "multiprocessing.reduction", reduction)  # fastmp stands for it
    assert reduction.loads(reduction.dumps([Plain(1)])) == [Plain(1)]


def test_a_reducer_may_pickle(reducers):
    ForkingPickler.register(Nested, lambda obj: (pickle.loads, (reduction.dumps([obj.value]),)))
    assert reduction.loads(reduction.dumps([1, Nested("in"), 2])) == [1, ["in"], 2]


def test_an_error_leaves_no_trace():
    for _ in range(3):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            reduction.dumps([Plain(), lambda: None])
        assert reduction.loads(reduction.dumps([1, Plain(2)])) == [1, Plain(2)]


def test_threads_pickle_at_the_same_time():
    failures = []

    def work(number):
        for i in range(300):
            obj = [Plain((number, i)), {"key": [i] * 50}]
            if reduction.loads(reduction.dumps(obj)) != obj:
                failures.append(obj)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_forking_pickler_is_a_pickler(reducers):
    class Own(ForkingPickler):
        def persistent_id(self, obj):
            return "five" if obj == 5 else None

    ForkingPickler.register(Special, lambda obj: (Plain, (obj.value,)))
    file = io.BytesIO()
    ForkingPickler(file, 2).dump(Special(1))
    assert pickle.loads(file.getvalue()) == Plain(1)
    assert b"five" in bytes(Own.dumps([5]))
    file = io.BytesIO()
    reduction.dump({"a": 1}, file)
    assert ForkingPickler.loads(file.getvalue()) == {"a": 1}


def test_the_table_of_a_pickler_is_its_own(reducers):
    pickler = ForkingPickler(io.BytesIO())
    pickler.dispatch_table[Special] = lambda obj: (Plain, ("private",))
    assert reduction.loads(reduction.dumps(Special(1))) == Special(1)


def test_abstract_reducer_offers_the_names():
    class Mine(reduction.AbstractReducer):
        pass

    mine = Mine()
    assert mine.ForkingPickler is ForkingPickler
    assert mine.dump is reduction.dump
    assert mine.DupFd is reduction.DupFd


@pytest.mark.parametrize("count", [1, 3, 200])
def test_descriptors_travel(count):
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, theirs:
        reduction.sendfds(ours, [writer] * count)
        received = reduction.recvfds(theirs, count)
        assert len(received) == count
        assert not any(os.get_inheritable(fd) for fd in received)
        os.write(received[-1], b"hello")
        assert os.read(reader, 10) == b"hello"
    for fd in [reader, writer, *received]:
        os.close(fd)


def test_descriptors_that_do_not_come():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"\1")
        with pytest.raises(RuntimeError, match="Invalid data received"):
            reduction.recvfds(theirs, 1)
        reduction.sendfds(ours, [0, 0])
        with pytest.raises(RuntimeError, match="2 descriptors, 1 were expected"):
            reduction.recvfds(theirs, 1)
        ours.close()
        with pytest.raises(EOFError):
            reduction.recvfds(theirs, 1)


def receive_and_write(conn):
    handle = reduction.recv_handle(conn)
    os.write(handle, b"from the child")
    os.close(handle)


def test_send_handle_to_a_child(ctx, finish):
    ours, theirs = Pipe()
    reader, writer = os.pipe()
    with ours, theirs:
        child = ctx.Process(target=receive_and_write, args=(theirs,))
        child.start()
        reduction.send_handle(ours, writer, child.pid)
        finish(child)
    os.close(writer)
    assert child.exitcode == 0
    assert os.read(reader, 100) == b"from the child"
    os.close(reader)


class FakePopen:
    """What a launcher does while it pickles for its child, which is this process here."""

    class DupFd:
        def __init__(self, fd):
            self.fd = fd

        def detach(self):
            return self.fd

    def duplicate_for_child(self, fd):
        return os.dup(fd)


@pytest.fixture
def spawning():
    _spawning.set_spawning_popen(FakePopen())
    yield
    _spawning.set_spawning_popen(None)


def test_connections_are_arguments_of_a_spawned_process(spawning):
    reader, writer = Pipe(duplex=False)
    copy = reduction.loads(reduction.dumps(reader))
    with reader, writer, copy:
        assert type(copy) is Connection
        assert (copy.readable, copy.writable) == (True, False)
        assert copy.fileno() != reader.fileno()
        writer.send("hello")
        assert copy.recv() == "hello"


def test_sockets_are_arguments_of_a_spawned_process(spawning):
    ours, theirs = socket.socketpair()
    copy = reduction.loads(reduction.dumps(theirs))
    with ours, theirs, copy:
        assert (copy.family, copy.type, copy.proto) == (theirs.family, theirs.type, theirs.proto)
        ours.send(b"hello")
        assert copy.recv(10) == b"hello"


@pytest.fixture
def sharing():
    yield
    resource_sharer.stop(timeout=30)


def answer(conn):
    received = conn.recv()
    with received:
        received.send(b"hello") if isinstance(received, socket.socket) else received.send_bytes(b"hello")


@pytest.mark.parametrize("make", [Pipe, socket.socketpair])
def test_a_running_process_fetches_what_it_receives(make, start, finish, sharing):
    ours, theirs = Pipe()
    with ours, theirs:
        child = start(answer, theirs)
        kept, given = make()
        with kept:
            with given:
                ours.send(given)
                finish(child)
            assert kept.recv(5) == b"hello" if make is socket.socketpair else kept.recv_bytes() == b"hello"


def test_what_nobody_fetches_is_given_back(sharing):
    reader, writer = Pipe(duplex=False)
    with reader:
        with writer:
            message = reduction.dumps(writer)
        assert not reader.poll()  # the offer is a copy
        resource_sharer.stop(timeout=30)
        with pytest.raises(EOFError):
            reader.recv()
    with pytest.raises(ConnectionRefusedError):
        reduction.loads(message)


def test_a_ticket_is_used_once(sharing):
    reader, writer = Pipe(duplex=False)
    with reader, writer:
        message = reduction.dumps(writer)
        with reduction.loads(message) as copy:
            copy.send(1)
        assert reader.recv() == 1
        with pytest.raises(EOFError):
            reduction.loads(message)


@pytest.mark.parametrize("of, step", [(connection.Listener, "accept_socket"), (threading.Thread, "start")])
def test_the_thread_that_shares_goes_on(sharing, monkeypatch, of, step):
    real, left = getattr(of, step), [MemoryError()]

    def fail(*args):
        if left and threading.current_thread() is resource_sharer._resource_sharer._thread:
            raise left.pop()
        return real(*args)

    monkeypatch.setattr(of, step, fail)
    reader, writer = Pipe(duplex=False)
    with reader, writer:
        message = reduction.dumps(writer)
        with contextlib.suppress(EOFError, ConnectionError):  # it was turned away
            reduction.loads(message).close()
        with reduction.loads(reduction.dumps(writer)) as copy:
            copy.send(1)
        assert reader.recv() == 1
        assert not left


def test_a_thread_that_shares_cannot_be_started(sharing, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    reader, writer = Pipe(duplex=False)
    with reader, writer:
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start new thread"):
            patch.setattr(threading.Thread, "start", refuse)
            reduction.dumps(writer)
        with reduction.loads(reduction.dumps(writer)) as copy:
            copy.send(1)
        assert reader.recv() == 1


def offers(conn):
    conn.send(len(resource_sharer._resource_sharer._offers))
    with Pipe(duplex=False)[0] as reader:
        with reduction.loads(reduction.dumps(reader)) as copy:
            conn.send(copy.readable)
        resource_sharer.stop(timeout=30)


def test_a_child_has_offers_of_its_own(start, finish, sharing):
    ours, theirs = Pipe()
    reader, writer = Pipe(duplex=False)
    with ours, theirs, reader, writer:
        message = reduction.dumps(writer)
        finish(start(offers, theirs))
        assert (ours.recv(), ours.recv()) == (0, True)
        reduction.loads(message).close()


def test_arrays_stay_arrays():
    values = array.array("d", [1.5, 2.5])
    assert reduction.loads(reduction.dumps(values)) == values
