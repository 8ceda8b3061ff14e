"""Connections: their end, and waiting for what the other end does."""

import fcntl
import os
import selectors
import signal
import threading

import pytest
from processes import blocked
from waiting import DEADLINE, wait_until

from fastmp import _core, connection
from fastmp.connection import Connection, Pipe

CHUNK = 1 << 20  # more than there is room for in a socket

# ---- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["pair", "one_way", "stream", "piped"])
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


@pytest.mark.parametrize("ends", ["pair", "one_way", "stream", "piped"])
def test_nobody_listens(ends, request):
    r, w = request.getfixturevalue(ends)
    r.close()
    with pytest.raises(BrokenPipeError):
        w.send(1)
    with pytest.raises(BrokenPipeError):
        w.send_bytes(bytes(CHUNK))


@pytest.mark.parametrize("part", [b"\0", b"\0\0\0", b"\0\0\0\5", b"\0\0\0\5ab", b"\xff\xff\xff\xff\0\0"])
def test_end_in_the_middle_of_a_message(stream, part):
    a, b = stream
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


@pytest.mark.parametrize("ends", ["pair", "stream", "piped"])
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


@pytest.mark.parametrize("ends", ["pair", "stream", "piped"])
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


def send_endlessly(end):
    while True:
        end.send_bytes(bytes(CHUNK))


def poll_endlessly(end):
    end.poll(None)


WAITS = [Connection.recv, poll_endlessly, send_endlessly]


@pytest.mark.parametrize("call", WAITS)
@pytest.mark.parametrize("ends", ["pair", "stream"])
def test_closed_while_another_thread_waits(ends, call, request, in_thread):
    """What is opened next gets another number, or that thread would take bytes out of it, or put some in."""
    a, b = request.getfixturevalue(ends)
    thread, number = [], b.fileno()
    waited = in_thread(lambda: (thread.append(threading.get_native_id()), call(b)))
    wait_until(lambda: thread and blocked(os.getpid(), thread[0]))
    b.close()
    others = first_free(number, like=a)
    with pytest.raises(OSError, match="handle is closed"):
        waited()
    assert others != number
    assert first_free(number, like=a) == number


def first_free(least, like):
    """The number that the next descriptor gets, from `least` on."""
    number = fcntl.fcntl(like, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(number)
    return number


@pytest.mark.parametrize("call", WAITS)
@pytest.mark.parametrize("ends", ["pair", "stream"])
def test_closed_by_a_signal_handler_meanwhile(ends, call, request):
    _, b = request.getfixturevalue(ends)
    old = signal.signal(signal.SIGALRM, lambda number, frame: b.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(OSError, match="handle is closed"):
            call(b)
    finally:
        signal.signal(signal.SIGALRM, old)


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
