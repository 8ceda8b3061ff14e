"""A signal handler that strikes at any step of the use of connections: it raises, or uses the connection.

A message has then been sent wholly or not at all, received or not; who is at the other side of a connection
that did not come about is told; and no descriptor or file is left."""

import contextlib
import functools
import os
import pickle
import socket
import struct

import pytest
from strikes import Struck, all_strikes, strike, strike_asleep
from targets import DEADLINE
from waiting import wait_until

from fastmp import connection, reduction, resource_sharer
from fastmp.connection import Client, Listener, Pipe, stream_pipe

KEY = b"key"
STRIDE = 9  # in the normal suite not all places are gone through
each_stride = pytest.mark.parametrize(
    "stride", [STRIDE, pytest.param(1, marks=[pytest.mark.stress, pytest.mark.deadline(900)])]
)
each_pipe = pytest.mark.parametrize("pipe", [Pipe, stream_pipe], ids=["memory", "stream"])
each_key = pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])


class Item:
    """Python code runs when it is pickled and unpickled."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return revive, (int(self.number),)


def revive(number):
    return Item(int(number))


def struck_run(striker, k, function, handler=strike):
    """What the function returns, or None if the handler raised."""
    try:
        result = striker.run(k, function, handler)
    except Struck:
        return None
    assert handler is not strike or not striker.struck, striker.place
    return result


# ---- messages -----------------------------------------------------------------------------------------


def drain(a, b):
    a.send("the last")
    return [item.number for item in iter(b.recv, "the last")]


@each_stride
@each_pipe
def test_the_making_is_struck(pipe, stride):
    for striker, k in all_strikes(stride, __file__):
        struck_run(striker, k, lambda: pipe(True))


@each_stride
@each_pipe
def test_a_send_is_struck(pipe, stride):
    for striker, k in all_strikes(stride, __file__):
        a, b = pipe()
        with a, b:
            struck_run(striker, k, lambda a=a: a.send(Item(1)))
            assert drain(a, b) in ([[1], []] if striker.struck else [[1]]), striker.place


@each_stride
@each_pipe
@pytest.mark.parametrize("timeout", [0, DEADLINE, None])
def test_a_receive_is_struck(pipe, timeout, stride):
    def receive(conn):
        return connection.wait([conn], timeout) == [conn] and conn.poll(timeout) and conn.recv()

    for striker, k in all_strikes(stride, __file__):
        a, b = pipe()
        with a, b:
            for number in range(3):
                a.send(Item(number))
            struck_run(striker, k, lambda b=b: receive(b))
            assert drain(a, b) in ([[0, 1, 2], [1, 2]] if striker.struck else [[1, 2]]), striker.place


@each_stride
@each_pipe
def test_a_connection_in_a_message_is_struck(pipe, stride):
    """Its copy works, or is gone altogether; and so does the next."""
    for striker, k in all_strikes(stride, __file__):
        a, b = pipe()
        here, there = pipe()
        with a, b, here:
            struck_run(striker, k, lambda a=a, there=there: a.send(there))
            a.send(there)
            there.close()
            a.send("the last")
            copies = list(iter(b.recv, "the last"))
            assert len(copies) in ([1, 2] if striker.struck else [2]), striker.place
            for copy in copies:
                copy.send("still")
                assert here.recv() == "still"
                copy.close()
            resource_sharer.stop()
            with pytest.raises(EOFError):
                here.recv()


@each_stride
@each_pipe
@pytest.mark.parametrize("way", ["recv_handle", "DupFd"])
def test_a_descriptor_that_is_received_is_struck(pipe, way, stride):
    """It is the caller's, or closed: the pipe ends when all have let go of it."""
    for striker, k in all_strikes(stride):
        a, b = pipe()
        reader, writer = os.pipe()
        with a, b, open(reader, "rb", 0) as file:
            os.set_blocking(reader, False)
            if way == "DupFd":
                receive = resource_sharer.DupFd(writer).detach
            else:
                reduction.send_handle(a, writer, os.getpid())
                receive = functools.partial(reduction.recv_handle, b)
            fd = struck_run(striker, k, receive)
            os.close(writer)
            if fd is not None:
                os.close(fd)
            a.close()
            b.close()
            resource_sharer.stop()
            wait_until(lambda file=file: file.read() == b"")  # the thread of the sharer lets go, too


@each_stride
@each_pipe
def test_a_handler_sends_and_receives(pipe, stride):
    """In the pickling of a message, and after it."""
    for striker, k in all_strikes(stride, __file__):
        a, b = pipe()
        seen = []

        def use(a=a, b=b, seen=seen):
            b.send("back")
            a.send(Item(2))
            seen.append(a.recv())

        with a, b:
            struck_run(striker, k, lambda a=a: a.send(Item(1)), use)
            assert seen == ["back"] * striker.struck
            assert sorted(drain(a, b)) == [1, 2][: 1 + striker.struck], striker.place


@each_pipe
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize(
    "call",
    [lambda conn: conn.poll(None), lambda conn: connection.wait([conn]), lambda conn: conn.recv()],
    ids=["poll", "wait", "recv"],
)
def test_asleep(pipe, call, raises):
    a, b = pipe()
    with a, b:
        if raises:
            with pytest.raises(Struck):
                strike_asleep(lambda: call(b), lambda: None, strike)
            a.send(Item(1))
            assert drain(a, b) == [1]
        else:
            strike_asleep(lambda: call(b), lambda: a.send(Item(1)))
            assert drain(a, b) in ([], [1])


@each_pipe
def test_a_handler_receives_what_is_waited_for(pipe):
    a, b = pipe()
    seen = []

    def use():
        a.send(1)
        seen.append(b.recv())
        a.send(2)

    with a, b:
        assert strike_asleep(b.recv, use) == 2
        assert seen == [1]


# ---- a stream, in the middle of a message ------------------------------------------------------------

LONG = bytes(range(256)) * (1 << 14)  # more than there is room for in a socket
PICKLED = pickle.dumps("an object")
RECEIVE = {
    "object": lambda conn: conn.recv(),
    "bytes": lambda conn: pickle.loads(conn.recv_bytes()),
    "into": lambda conn: pickle.loads(memoryview(room := bytearray(99))[: conn.recv_bytes_into(room)]),
}


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("many", [1, 2])
def test_a_handler_sends_while_a_message_is_half_sent(stream, in_thread, many, raises):
    """That one is sent to its end first, also if the call that sends it raises then."""
    a, b = stream
    received = []

    def use():
        received.append(in_thread(lambda: [b.recv_bytes() for _ in range(many + 2)]))
        for number in range(many):
            a.send_bytes(bytes([number]) * len(LONG))
        if raises:
            raise Struck

    with pytest.raises(Struck) if raises else contextlib.nullcontext():
        strike_asleep(lambda: a.send_bytes(LONG), use)
    a.send_bytes(b"the next")
    assert received[0]() == [LONG, *(bytes([number]) * len(LONG) for number in range(many)), b"the next"]


def test_a_handler_within_a_handler_sends(stream, in_thread):
    a, b = stream
    received = []

    def use():
        received.append(in_thread(lambda: [b.recv_bytes() for _ in range(3)]))
        a.send_bytes(b"the second's")

    def use_first():
        a.send_bytes(b"the first's" * len(LONG))

    strike_asleep(lambda: a.send_bytes(LONG), use_first, use)
    assert received[0]() == [LONG, b"the second's", b"the first's" * len(LONG)]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("part", [0, 1, 4, 6])
@pytest.mark.parametrize("first", RECEIVE)
@pytest.mark.parametrize("second", RECEIVE)
def test_a_handler_receives_the_message_that_is_half_received(stream, first, second, part, raises):
    a, b = stream
    frame = struct.pack("!i", len(PICKLED)) + PICKLED
    seen = []

    def use():
        os.write(a.fileno(), frame[part:])
        seen.append(RECEIVE[second](b))
        a.send("the next")
        if raises:
            raise Struck

    os.write(a.fileno(), frame[:part])
    with pytest.raises(Struck) if raises else contextlib.nullcontext():
        assert strike_asleep(lambda: RECEIVE[first](b), use) == "the next"
    if raises:
        assert b.recv() == "the next"
    assert seen == ["an object"]


@pytest.mark.parametrize("part", [0, 4, 6])
@pytest.mark.parametrize("first", RECEIVE)
def test_a_handler_is_interrupted_while_it_receives(stream, first, part):
    a, b = stream
    frame = struct.pack("!i", len(PICKLED)) + PICKLED

    def use():
        os.write(a.fileno(), frame[part:7])
        b.recv()

    os.write(a.fileno(), frame[:part])
    with pytest.raises(Struck):
        strike_asleep(lambda: RECEIVE[first](b), use, strike)
    os.write(a.fileno(), frame[7:])
    assert b.recv() == "an object"


# ---- listeners and clients ----------------------------------------------------------------------------

ADDRESSES = {"abstract": (None, "AF_UNIX"), "path": ("socket", "AF_UNIX"), "port": (None, "AF_INET")}
each_address = pytest.mark.parametrize("address, family", ADDRESSES.values(), ids=ADDRESSES)


@each_stride
@each_address
def test_the_making_of_a_listener_is_struck(address, family, stride):
    for striker, k in all_strikes(stride, __file__):
        struck_run(striker, k, lambda: Listener(address, family))
        assert not (address and os.path.exists(address)), striker.place


@each_stride
@each_address
def test_the_end_of_a_listener_is_struck(address, family, stride):
    """Then it is closed once more."""
    for striker, k in all_strikes(stride, __file__):
        listener = Listener(address, family)
        struck_run(striker, k, listener.close)
        listener.close()
        assert not (address and os.path.exists(address)), striker.place


def speak(address, key, name):
    """As a client: what the listener says, or that it is gone."""
    try:
        with Client(address, authkey=key) as conn:
            conn.send(name)
            return conn.recv()
    except (EOFError, OSError) as e:
        return type(e)


def serve(listener, name):
    """Serve clients until that one was served."""
    while True:
        with contextlib.suppress(EOFError, OSError), listener.accept() as conn:
            client = conn.recv()
            conn.send("welcome")
            if client == name:
                return


@each_stride
@each_address
@each_key
def test_an_accept_is_struck(address, family, key, stride, in_thread):
    """The client that was there is told, or served later, and so is the next."""
    for striker, k in all_strikes(stride, __file__):
        with Listener(address, family, authkey=key, backlog=2) as listener:
            first = in_thread(speak, listener.address, key, "first")
            conn = struck_run(striker, k, listener.accept)
            if conn is not None:
                assert conn.recv() == "first"
                conn.send("welcome")
                conn.close()
            second = in_thread(speak, listener.address, key, "second")
            serve(listener, "second")
            assert second() == "welcome", striker.place
        assert first() == "welcome" or striker.struck, striker.place


@each_stride
@each_address
@each_key
def test_a_client_is_struck(address, family, key, stride, in_thread):
    """Also in the socket. The listener goes on."""
    for striker, k in all_strikes(stride, __file__, socket.__file__):
        with Listener(address, family, authkey=key, backlog=2) as listener:
            served = in_thread(serve, listener, "last")
            conn = struck_run(striker, k, lambda listener=listener: Client(listener.address, authkey=key))
            if conn is not None:
                conn.send("first")
                assert conn.recv() == "welcome"
                conn.close()
            assert speak(listener.address, key, "last") == "welcome", striker.place
            served()
