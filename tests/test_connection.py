"""Connection: messages over a descriptor, or through the arena with a descriptor beside it."""

import array
import gc
import os
import pickle
import socket
import struct
import subprocess
import sys
import weakref

import pytest
from waiting import DEADLINE

from fastmp import BufferTooShort, connection
from fastmp.connection import Connection, Pipe

CHUNK = 1 << 20  # more than there is room for in a socket

# ---- making one ------------------------------------------------------------------------------------


def test_bad_arguments():
    with pytest.raises(ValueError, match="invalid handle"):
        Connection(-1)
    with pytest.raises(ValueError, match="at least one of `readable` and `writable`"):
        Connection(0, False, False)
    with pytest.raises(TypeError):
        Connection(1.5)
    with pytest.raises(TypeError):
        Connection("1")
    with pytest.raises(TypeError):
        Connection()
    with pytest.raises(OverflowError):
        Connection(1 << 70)


def test_handle_by_index():
    class Handle:
        def __init__(self, fd):
            self.fd = fd

        def __index__(self):
            return self.fd

    r, w = os.pipe()
    with Connection(Handle(r), writable=False) as reader, Connection(handle=w, readable=False) as writer:
        assert (reader.fileno(), writer.fileno()) == (r, w)


def test_type():
    assert Connection is connection.Connection
    assert f"{Connection.__module__}.{Connection.__qualname__}" == "fastmp.connection.Connection"


def test_attributes(pair, one_way):
    a, _ = pair
    r, w = one_way
    assert (a.readable, a.writable, a.closed) == (True, True, False)
    assert (r.readable, r.writable, w.readable, w.writable) == (True, False, False, True)
    assert a._handle == a.fileno() >= 0
    for name in ("closed", "readable", "writable"):
        with pytest.raises(AttributeError):
            setattr(a, name, True)
    assert repr(a).startswith("<fastmp.connection.Connection object at ")


def test_subclass_and_weakref():
    class Mine(Connection):
        def __init__(self, fd, tag):
            super().__init__(fd)
            self.tag = tag

        def close(self):
            self.tag = "closed"
            super().close()

    fd = socket.socket().detach()
    with Mine(fd, "tag") as mine:
        assert mine.tag == "tag"
    assert (mine.tag, mine.closed) == ("closed", True)
    ref = weakref.ref(mine)
    del mine
    gc.collect()
    assert ref() is None


def test_without_init():
    bare = Connection.__new__(Connection)
    assert bare.closed
    for call in (bare.recv, bare.fileno, bare.poll, lambda: bare.send(1)):
        with pytest.raises(OSError, match="handle is closed"):
            call()


def test_no_pickle(pair):
    with pytest.raises((TypeError, RuntimeError)):
        pickle.dumps(pair[0])


# ---- closing ---------------------------------------------------------------------------------------


def uses(conn):
    return [
        conn.recv,
        conn.recv_bytes,
        lambda: conn.recv_bytes(-1),
        lambda: conn.recv_bytes_into(bytearray(4)),
        conn.poll,
        lambda: conn.send(1),
        lambda: conn.send_bytes(b""),
        conn.fileno,
        conn._check_closed,
    ]


def test_closed(pair):
    a, _ = pair
    fd = a.fileno()
    a.close()
    a.close()
    assert a.closed and a._handle is None
    for use in uses(a):
        with pytest.raises(OSError, match="handle is closed"):
            use()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert a.__enter__() is a


def test_context_manager(pair):
    with pair[0] as a:
        assert a is pair[0]
        assert not a.closed
    assert a.closed
    with pytest.raises(EOFError):
        pair[1].recv()


def test_collected_is_closed():
    a, b = Pipe()
    with b:
        del a
        gc.collect()
        with pytest.raises(EOFError):
            b.recv()


def test_handle_can_be_taken_and_given(pair):
    a, b = pair
    fd, a._handle = a._handle, None
    assert a.closed
    with pytest.raises(OSError, match="handle is closed"):
        a.send(1)
    a._handle = fd
    a.send(1)
    assert b.recv() == 1
    for bad, error in (("1", TypeError), (-1, ValueError), (1 << 40, ValueError)):
        with pytest.raises(error):
            a._handle = bad
    assert a.fileno() == fd
    with pytest.raises(AttributeError):
        del a._handle


def test_wrong_direction(one_way):
    r, w = one_way
    for use in [*uses(w)[:5], w._check_readable]:
        with pytest.raises(OSError, match="connection is write-only"):
            use()
    for use in [*uses(r)[5:7], lambda: r.send_bytes("", -1), r._check_writable]:
        with pytest.raises(OSError, match="connection is read-only"):
            use()
    w._check_writable()
    r._check_readable()
    w._check_closed()


# ---- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["pair", "one_way", "stream", "piped"])
def test_objects(ends, request):
    r, w = request.getfixturevalue(ends)
    for obj in (None, 1, 1.5, "text", b"bytes", [1, {"a": (2, 3)}], {1, 2}, range(3), int):
        w.send(obj)
        assert r.poll()
        assert r.recv() == obj
    w.send(obj=1)
    assert r.recv() == 1
    assert not r.poll()


def test_unpicklable_sends_nothing(pair):
    a, b = pair
    with pytest.raises((AttributeError, pickle.PicklingError)):
        a.send([bytes(CHUNK), lambda: 0])
    assert not b.poll()
    a.send(1)
    assert b.recv() == 1


def test_bad_pickle_is_one_message(pair):
    a, b = pair
    a.send_bytes(b"xx")
    a.send_bytes(b"")
    a.send(1)
    with pytest.raises(pickle.UnpicklingError):
        b.recv()
    with pytest.raises(EOFError):  # by pickle, of an empty message
        b.recv()
    assert b.recv() == 1


def test_objects_are_pickles(pair):
    a, b = pair
    a.send([1, 2])
    assert pickle.loads(b.recv_bytes()) == [1, 2]
    a.send_bytes(pickle.dumps([3]))
    assert b.recv() == [3]


@pytest.mark.parametrize("ends", ["pair", "stream", "piped"])
@pytest.mark.parametrize("size", [0, 1, 4, 5000, (1 << 14) + 1, 70_000, 8 * CHUNK])
def test_sizes(ends, size, request, in_thread):
    r, w = request.getfixturevalue(ends)
    message = os.urandom(size)
    sent = in_thread(w.send_bytes, message)
    assert r.recv_bytes() == message
    sent()
    sent = in_thread(w.send_bytes, message)
    into = bytearray(size + 10)
    assert r.recv_bytes_into(into, 5) == size
    assert into == bytes(5) + message + bytes(5)
    sent()


def test_send_bytes_ranges(pair):
    a, b = pair
    numbers = array.array("i", range(5))
    for args, message in [
        ((b"abcde",), b"abcde"),
        ((b"abcde", 2), b"cde"),
        ((b"abcde", 5), b""),
        ((b"abcde", 1, 3), b"bcd"),
        ((b"abcde", 1, None), b"bcde"),
        ((b"abcde", 5, 0), b""),
        ((bytearray(b"ab"),), b"ab"),
        ((memoryview(b"abcd")[1:3],), b"bc"),
        ((numbers,), numbers.tobytes()),
        ((numbers, 4, 8), numbers[1:3].tobytes()),
        ((memoryview(b"abcdef").cast("B", (2, 3)),), b"abcdef"),
    ]:
        a.send_bytes(*args)
        assert b.recv_bytes() == message
    a.send_bytes(buf=b"abcde", size=2, offset=1)
    assert b.recv_bytes(maxlength=2) == b"bc"


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((b"abc", -1), ValueError, "offset is negative"),
        ((b"abc", -(1 << 80)), ValueError, "offset is negative"),
        ((b"abc", 4), ValueError, "buffer length < offset"),
        ((b"abc", 1 << 80), ValueError, "buffer length < offset"),
        ((b"abc", 0, -1), ValueError, "size is negative"),
        ((b"abc", 1, 3), ValueError, r"buffer length < offset \+ size"),
        ((b"abc", 1, 1 << 80), ValueError, r"buffer length < offset \+ size"),
        (("abc",), TypeError, "bytes-like object is required"),
        ((1,), TypeError, "bytes-like object is required"),
        ((memoryview(b"abcd")[::2],), TypeError, "contiguous"),
        ((b"abc", 1.5), TypeError, None),
        ((b"abc", 0, "1"), TypeError, None),
        ((), TypeError, "buf"),
    ],
)
def test_send_bytes_bad_arguments(pair, args, error, message):
    a, b = pair
    with pytest.raises(error, match=message):
        a.send_bytes(*args)
    assert not b.poll()


def test_recv_bytes_into(pair):
    a, b = pair
    room = array.array("i", [0] * 4)
    a.send_bytes(b"abcdefgh")
    assert b.recv_bytes_into(room, 8) == 8
    assert room.tobytes() == bytes(8) + b"abcdefgh"
    a.send_bytes(b"")
    assert b.recv_bytes_into(bytearray()) == 0
    a.send_bytes(b"xyz")
    target = bytearray(10)
    assert b.recv_bytes_into(memoryview(target)[2:5]) == 3
    assert target == b"\0\0xyz\0\0\0\0\0"


def test_buffer_too_short(pair):
    a, b = pair
    for args in ((bytearray(4),), (bytearray(9), 5), (bytearray(),)):
        a.send_bytes(b"hello")
        with pytest.raises(BufferTooShort) as caught:
            b.recv_bytes_into(*args)
        assert caught.value.args == (b"hello",)
        assert not any(args[0])
    a.send(1)
    assert b.recv() == 1


def test_recv_bytes_into_bad_arguments(pair):
    a, b = pair
    a.send_bytes(b"hello")
    for args, error, message in [
        ((bytearray(9), -1), ValueError, "negative offset"),
        ((bytearray(9), 10), ValueError, "offset too large"),
        ((bytearray(9), 1 << 80), ValueError, "offset too large"),
        ((b"123456789",), TypeError, "read-write bytes-like object"),
        ((memoryview(bytearray(20))[::2],), TypeError, "contiguous"),
        (("123456789",), TypeError, None),
        ((bytearray(9), 1.5), TypeError, None),
        ((), TypeError, "buf"),
    ]:
        with pytest.raises(error, match=message):
            b.recv_bytes_into(*args)
    assert b.recv_bytes() == b"hello"


def test_maxlength(pair, one_way):
    a, b = pair
    a.send_bytes(b"hello")
    with pytest.raises(ValueError, match="negative maxlength"):
        b.recv_bytes(-1)
    with pytest.raises(TypeError):
        b.recv_bytes("1")
    assert b.recv_bytes(5) == b"hello"
    a.send_bytes(b"")
    assert b.recv_bytes(0) == b""
    a.send_bytes(b"hello")
    with pytest.raises(OSError, match="bad message length"):
        b.recv_bytes(4)
    assert (b.closed, b.readable, b.writable) == (False, False, True)
    with pytest.raises(OSError, match="connection is write-only"):
        b.recv_bytes()
    b.send(1)
    assert a.recv() == 1

    r, w = one_way
    w.send_bytes(b"hello")
    with pytest.raises(OSError, match="bad message length"):
        r.recv_bytes(4)
    assert r.closed


@pytest.mark.stress
@pytest.mark.deadline(600)
def test_more_than_two_gigabytes(in_thread, one_way):
    r, w = one_way
    size = (1 << 31) + 5
    message = memoryview(bytearray(size))
    message[:3], message[-3:] = b"abc", b"xyz"
    sent = in_thread(w.send_bytes, message)
    received = r.recv_bytes()
    sent()
    del message
    assert (len(received), received[:3], received[-3:]) == (size, b"abc", b"xyz")
    assert not any(received[k << 20] for k in range(1, size >> 20))


# ---- the form on the wire --------------------------------------------------------------------------


def test_wire(stream):
    a, b = stream
    with socket.socket(fileno=os.dup(b.fileno())) as wire:
        a.send_bytes(b"hello")
        assert wire.recv(100) == b"\0\0\0\5hello"
        a.send_bytes(b"")
        assert wire.recv(100) == b"\0\0\0\0"
        a.send((1, 2))
        head = wire.recv(4)
        assert pickle.loads(wire.recv(100)) == (1, 2)
        assert struct.unpack("!i", head)[0] > 0
        wire.sendall(b"\xff\xff\xff\xff" + struct.pack("!Q", 5) + b"hello")
        assert a.recv_bytes() == b"hello"


def test_no_read_ahead(stream):
    a, b = stream
    with socket.socket(fileno=os.dup(b.fileno())) as wire:
        a.send_bytes(b"one")
        a.send_bytes(b"three")
        assert b.recv_bytes() == b"one"
        assert wire.recv(100) == b"\0\0\0\5three"


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\xff" * 12])
def test_impossible_length(stream, length):
    a, b = stream
    os.write(b.fileno(), length)
    with pytest.raises(OSError, match="bad message length"):
        a.recv()
    assert not a.readable


ECHO = """
import sys
from multiprocessing.connection import Connection
with Connection(int(sys.argv[1])) as conn:
    try:
        while True:
            conn.send(conn.recv())
            conn.send_bytes(conn.recv_bytes())
    except EOFError:
        pass
"""


@pytest.mark.imports_multiprocessing
def test_peer_of_the_standard_library(stream):
    a, b = stream
    peer = subprocess.Popen([sys.executable, "-c", ECHO, str(b.fileno())], pass_fds=[b.fileno()])
    b.close()
    for obj in (1, "text", {"a": [1, 2]}, b"x" * 20_000, b"x" * (8 * CHUNK)):
        a.send(obj)
        assert a.recv() == obj
        message = pickle.dumps(obj)
        a.send_bytes(message)
        assert a.recv_bytes() == message
    a.close()
    assert peer.wait(DEADLINE) == 0
