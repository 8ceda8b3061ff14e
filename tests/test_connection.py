"""Connection: messages over a descriptor."""

import array
import errno
import gc
import os
import pickle
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref

import pytest

from fastmp import BufferTooShort, _core, connection
from fastmp.connection import Connection, Pipe

DEADLINE = 30
CHUNK = 1 << 20  # more than there is room for in a socket


class Interruption(Exception):
    pass


@pytest.fixture
def pair():
    a, b = Pipe()
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def one_way():
    r, w = Pipe(duplex=False)
    yield r, w
    r.close()
    w.close()


@pytest.fixture
def piped():
    """A pair over an ordinary pipe."""
    fds = os.pipe()
    r, w = Connection(fds[0], writable=False), Connection(fds[1], readable=False)
    yield r, w
    r.close()
    w.close()


@pytest.fixture
def in_thread():
    """Run a function in a thread; the returned function gives its result, or raises what it raised."""
    threads = []

    def run(function, *args):
        outcome = []

        def work():
            try:
                outcome.append((function(*args), None))
            except BaseException as e:
                outcome.append((None, e))

        def get():
            thread.join(DEADLINE)
            result, error = outcome[0]
            if error is not None:
                raise error
            return result

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        threads.append(thread)
        return get

    yield run
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


# What a thread that waits for its turn to run Python sleeps in: the number of futex(2).
FUTEX = {"x86_64": "202", "aarch64": "98"}.get(os.uname().machine, "")


def sleeps(thread):
    """Does this thread of ours sleep in a system call that it made for itself?"""
    with open(f"/proc/self/task/{thread}/stat") as stat:
        if stat.read().rpartition(")")[2].split()[0] != "S":
            return False
    try:
        with open(f"/proc/self/task/{thread}/syscall") as call:
            return call.read().split()[0] not in ("running", FUTEX)
    except OSError:  # not everybody may ask for that
        return True


@pytest.fixture
def interrupted():
    """A function that calls another, which must block, and interrupts it by an exception."""
    waiting = False

    def handle(number, frame):
        nonlocal waiting
        if waiting:
            waiting = False
            raise Interruption

    def run(call):
        nonlocal waiting
        thread = threading.Thread(target=work)
        thread.start()
        with pytest.raises(Interruption):
            waiting = True
            call()
        thread.join(DEADLINE)

    def work():
        while not waiting:
            time.sleep(0.001)
        while waiting:
            if sleeps(main):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            time.sleep(0.001)

    main = threading.get_native_id()
    old = signal.signal(signal.SIGUSR1, handle)
    yield run
    signal.signal(signal.SIGUSR1, old)


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

    fd, other = _core.socket_pair(True)
    os.close(other)
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


@pytest.mark.parametrize("ends", ["pair", "one_way", "piped"])
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


@pytest.mark.parametrize("ends", ["pair", "piped"])
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


def test_wire(pair):
    a, b = pair
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


def test_no_read_ahead(pair):
    a, b = pair
    with socket.socket(fileno=os.dup(b.fileno())) as wire:
        a.send_bytes(b"one")
        a.send_bytes(b"three")
        assert b.recv_bytes() == b"one"
        assert wire.recv(100) == b"\0\0\0\5three"


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\xff" * 12])
def test_impossible_length(pair, length):
    a, b = pair
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
def test_peer_of_the_standard_library(pair):
    a, b = pair
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


# ---- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["pair", "one_way", "piped"])
def test_end(ends, request):
    r, w = request.getfixturevalue(ends)
    w.send("last")
    w.close()
    assert r.poll(None)
    assert r.recv() == "last"
    for _ in range(2):
        assert r.poll() and r.poll(DEADLINE)
        for receive in (r.recv, r.recv_bytes, lambda: r.recv_bytes_into(bytearray(9))):
            with pytest.raises(EOFError):
                receive()
    assert not r.closed


@pytest.mark.parametrize("ends", ["pair", "one_way", "piped"])
def test_nobody_listens(ends, request):
    r, w = request.getfixturevalue(ends)
    r.close()
    with pytest.raises(BrokenPipeError):
        w.send(1)
    with pytest.raises(BrokenPipeError):
        w.send_bytes(bytes(CHUNK))


@pytest.mark.parametrize("part", [b"\0", b"\0\0\0", b"\0\0\0\5", b"\0\0\0\5ab", b"\xff\xff\xff\xff\0\0"])
def test_end_in_the_middle_of_a_message(pair, part):
    a, b = pair
    os.write(b.fileno(), part)
    b.close()
    with pytest.raises(OSError, match="got end of file during message") as caught:
        a.recv()
    assert caught.value.errno is None
    with pytest.raises(EOFError):
        a.recv()


def test_peer_gone_without_reading(pair):
    a, b = pair
    a.send(1)
    b.send(2)
    b.close()
    assert a.recv() == 2
    with pytest.raises(EOFError):
        a.recv()


def sleep_for_ever(conn, other):
    other.close()
    conn.send("here")
    signal.pause()


def test_peer_killed(start):
    a, b = Pipe()
    child = start(sleep_for_ever, b, a)
    with a:
        b.close()
        assert a.recv() == "here"
        a.send("never read")
        child.kill()
        with pytest.raises(EOFError):
            a.recv()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            a.send(1)


def echo(conn, other):
    other.close()
    try:
        while True:
            conn.send_bytes(conn.recv_bytes())
    except EOFError:
        conn.close()


def test_echo_from_a_child(start):
    a, b = Pipe()
    start(echo, b, a)
    b.close()
    with a:
        for i in range(2000):
            a.send(i)
            assert a.recv() == i
        for size in (0, 1, 1 << 14, 100_000, 4 * CHUNK):
            message = os.urandom(size)
            a.send_bytes(message)
            assert a.recv_bytes() == message


def test_fork_of_the_core():
    a, b = Pipe()
    child = _core.fork()
    if child is None:
        try:
            b.send(os.getpid())
        finally:
            os._exit(0)
    b.close()
    assert a.recv() == child.pid
    with pytest.raises(EOFError):
        a.recv()
    a.close()
    assert child.wait(DEADLINE) == 0
    child.close()


# ---- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["pair", "piped"])
def test_poll(ends, request, in_thread):
    r, w = request.getfixturevalue(ends)
    for timeout in ((), (0,), (-1,), (0.0,), (1e-9,), (0.01,)):
        assert r.poll(*timeout) is False
    w.send(1)
    for timeout in ((), (0,), (-1,), (0.01,), (None,), (1e300,)):
        assert r.poll(*timeout) is True
    assert r.recv() == 1
    seen = in_thread(r.poll, DEADLINE)
    w.send(2)
    assert seen() is True
    assert r.recv() == 2
    seen = in_thread(r.poll, None)
    w.send(3)
    assert seen() is True
    assert r.poll(timeout=0)
    for bad, error in (("1", TypeError), (float("nan"), ValueError)):
        with pytest.raises(error):
            r.poll(bad)


def test_selectors(pair, in_thread):
    a, b = pair
    with selectors.DefaultSelector() as selector:
        selector.register(a, selectors.EVENT_READ)
        assert not selector.select(0)
        b.send(1)
        b.send(2)
        for i in (1, 2):
            assert selector.select(DEADLINE)
            assert a.recv() == i
        assert not selector.select(0)
    sent = in_thread(b.send, 3)
    assert connection.wait([a], DEADLINE) == [a]
    sent()


@pytest.mark.parametrize("ends", ["pair", "piped"])
def test_others_run_while_one_waits(ends, request, in_thread):
    r, w = request.getfixturevalue(ends)
    received = in_thread(r.recv)
    w.send("from another thread")
    assert received() == "from another thread"
    sent = in_thread(w.send_bytes, bytes(4 * CHUNK))
    assert r.recv_bytes() == bytes(4 * CHUNK)
    sent()


def test_descriptor_that_does_not_block():
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    with Connection(fds[0], writable=False) as r, Connection(fds[1], readable=False) as w:
        child = _core.fork()
        if child is None:
            try:
                w.send_bytes(bytes(CHUNK))
            finally:
                os._exit(0)
        assert r.recv_bytes() == bytes(CHUNK)
        assert child.wait(DEADLINE) == 0
        child.close()


def test_closed_while_another_thread_waits(pair, in_thread):
    _, b = pair
    received = in_thread(b.recv)
    b.close()
    with pytest.raises(OSError, match="handle is closed"):
        received()


def test_threads_that_share_an_end(pair, in_thread):
    """Their messages may be mixed up where one comes in parts, but memory stays whole."""
    a, b = pair

    def receive():
        try:
            for _ in range(500):
                assert len(b.recv_bytes(100)) <= 100
        except OSError:
            assert not b.readable

    def send():
        with pytest.raises(OSError):
            for i in range(1 << 30):
                a.send_bytes(bytes(i % 100))

    sent = in_thread(send)
    for received in [in_thread(receive) for _ in range(4)]:
        received()
    b.close()
    sent()


# ---- interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["pair", "piped"])
def test_interrupted_before_anything_came(ends, request, interrupted):
    r, w = request.getfixturevalue(ends)
    for wait in (r.recv, r.recv_bytes, lambda: r.recv_bytes_into(bytearray(9)), lambda: r.poll(None)):
        interrupted(wait)
    w.send(1)
    assert r.recv() == 1


@pytest.mark.parametrize("part", [1, 4, 6])
@pytest.mark.parametrize("second", ["bytes", "into", "object"])
@pytest.mark.parametrize("first", ["bytes", "into"])
def test_interrupted_in_the_middle_of_a_message(pair, interrupted, first, second, part):
    a, b = pair
    pickled = pickle.dumps("an object")
    frame = struct.pack("!i", len(pickled)) + pickled

    def receive(how):
        if how == "object":
            return pickle.dumps(b.recv())
        if how == "bytes":
            return b.recv_bytes()
        into = bytearray(100)
        return bytes(into[: b.recv_bytes_into(into)])

    os.write(a.fileno(), frame[:part])
    interrupted(lambda: receive(first))
    os.write(a.fileno(), frame[part:])
    a.send("the next")
    assert receive(second) == pickled
    assert b.recv() == "the next"


def test_interrupted_then_refused(pair, interrupted):
    a, b = pair
    os.write(a.fileno(), b"\0\0\0\5he")
    interrupted(b.recv_bytes)
    os.write(a.fileno(), b"llo")
    with pytest.raises(BufferTooShort) as caught:
        b.recv_bytes_into(bytearray(4))
    assert caught.value.args == (b"hello",)
    os.write(a.fileno(), b"\0\0\0\5he")
    interrupted(b.recv_bytes)
    with pytest.raises(OSError, match="bad message length"):
        b.recv_bytes(4)
    assert not b.readable


@pytest.mark.parametrize("ends", ["pair", "piped"])
def test_interrupted_send_goes_on_with_the_next(ends, request, interrupted, in_thread):
    r, w = request.getfixturevalue(ends)
    message = bytearray(os.urandom(4 * CHUNK))
    whole = bytes(message)
    for _ in range(2):
        interrupted(lambda: w.send_bytes(message))
        message[:] = bytes(len(message))  # the caller's again
    received = in_thread(lambda: [r.recv_bytes() for _ in range(2)])
    w.send_bytes(b"the next")
    assert received() == [whole, b"the next"]


def test_interrupted_before_anything_was_sent(pair, interrupted):
    a, b = pair
    sock = socket.socket(fileno=os.dup(a.fileno()))
    with sock, pytest.raises(BlockingIOError):
        while True:
            sock.send(b"\0\0\0\0" * 1024, socket.MSG_DONTWAIT)
    interrupted(lambda: a.send_bytes(b"never sent"))
    a.close()
    messages = set()
    with pytest.raises(EOFError):
        while True:
            messages.add(b.recv_bytes())
    assert messages == {b""}


def test_handler_that_does_not_raise(pair, in_thread):
    a, b = pair
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        main = threading.main_thread().ident

        def work():
            for _ in range(20):
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(0.001)
            a.send("at last")

        done = in_thread(work)
        assert b.recv() == "at last"
        done()
        assert seen
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_handler_that_receives(pair, in_thread):
    """It gets the message, and who was interrupted gets the next."""
    a, b = pair
    got = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: got.append(b.recv()))
    try:
        main = threading.main_thread().ident
        interrupted = threading.Event()

        def work():
            signal.pthread_kill(main, signal.SIGALRM)
            interrupted.set()
            a.send(1)
            a.send(2)

        done = in_thread(work)
        got.append(b.recv())
        done()
        while len(got) < 2:
            got.append(b.recv())
        assert sorted(got) == [1, 2]
    finally:
        signal.signal(signal.SIGALRM, old)


CTRL_C = """
import sys
from fastmp.connection import Pipe
a, b = Pipe()
try:
    print("ready", flush=True)
    {call}
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "call",
    ["a.recv()", "a.recv_bytes_into(bytearray(9))", "a.poll(None)", "a.poll(1e9)", "a.send(bytes(1 << 22))"],
)
def test_ctrl_c(call):
    run = subprocess.Popen(
        [sys.executable, "-c", CTRL_C.format(call=call)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=DEADLINE)
    assert (run.returncode, out) == (0, "interrupted\n")


def test_no_descriptor_at_all():
    fd, other = _core.socket_pair(True)
    os.close(other)
    conn = Connection(fd)
    os.close(fd)
    for use in (conn.recv, conn.poll, lambda: conn.send(1)):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.EBADF
    conn._handle = None
