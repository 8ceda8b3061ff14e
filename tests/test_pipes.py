"""Pipes in shared memory: a descriptor readable while there are messages, and an end that many use."""

import asyncio
import errno
import os
import select
import signal
import socket
import threading

import pytest
from waiting import DEADLINE, Interruption

from fastmp import Event, SimpleQueue, connection, reduction
from fastmp.connection import Connection, Pipe

CHUNK = 1 << 20  # more than there is room for in a socket


def readable(conn):
    return bool(select.select([conn], [], [], 0)[0])


@pytest.mark.parametrize("before", [0, 1, 3])
def test_descriptor_is_readable_while_there_are_messages(pair, before):
    a, b = pair
    for i in range(before):
        a.send(i)
    for i in range(before):
        assert readable(b)
        assert b.recv() == i
    for obj in (1, bytes(CHUNK)):
        assert not readable(b)
        a.send(obj)
        a.send(obj)
        for _ in range(2):
            assert readable(b)
            assert b.recv() == obj
    assert not readable(b)
    assert not b.poll()
    a.close()
    assert readable(b)


def test_many_are_waited_for():
    pipes = [Pipe() for _ in range(50)]
    readers = [r for r, _ in pipes]
    assert connection.wait(readers, 0) == []
    for k in (3, 30, 3):
        pipes[k][1].send(k)
        assert select.select(readers, [], [], DEADLINE)[0] == [readers[k]]
        assert connection.wait(readers, DEADLINE) == [readers[k]]
        assert readers[k].recv() == k
        assert connection.wait(readers, 0) == []
    pipes[7][1].send(1)
    pipes[9][1].close()
    assert connection.wait(readers) == [readers[7], readers[9]]
    for r, w in pipes:
        r.close()
        w.close()


def test_asyncio_reader(pair, in_thread):
    a, b = pair
    loop = asyncio.new_event_loop()
    got = []

    def read():
        got.append(b.recv())
        if len(got) == 200:
            loop.stop()

    loop.add_reader(b, read)
    sent = in_thread(lambda: [a.send(i) for i in range(200)])
    loop.run_forever()
    loop.remove_reader(b)
    loop.close()
    sent()
    assert got == list(range(200))


def test_a_copy_of_the_descriptor_is_the_same_end(pair):
    a, b = pair
    with Connection(os.dup(b.fileno())) as copy:
        a.send(1)
        a.send(2)
        assert (copy.recv(), b.recv()) == (1, 2)
        copy.send([3])
        b.close()
        a.send(4)
        assert (copy.recv(), a.recv()) == (4, [3])
    with pytest.raises(BrokenPipeError):
        a.send(5)


def test_bytes_that_are_no_message(pair):
    a, b = pair
    os.write(a.fileno(), b"x")
    with pytest.raises(OSError) as caught:
        b.recv()
    assert caught.value.errno == errno.EBADMSG
    assert os.read(b.fileno(), 10) == b"x"
    a.send(1)
    assert b.recv() == 1


def test_handles_among_messages(pair):
    a, b = pair
    with open(os.devnull) as file:
        a.send("before")
        reduction.send_handle(a, file.fileno(), os.getpid())
        a.send("after")
        assert b.recv() == "before"
        fd = reduction.recv_handle(b)
        assert os.path.samestat(os.fstat(fd), os.fstat(file.fileno()))
        os.close(fd)
    assert readable(b)
    assert b.recv() == "after"
    assert not readable(b)


def test_slow_reader(pair):
    """What is under way is bounded; a send that is interrupted was made or not."""
    a, b = pair
    sent = 0
    at_last_tick = -1

    def tick(number, frame):
        nonlocal at_last_tick
        if sent == at_last_tick:
            raise Interruption
        at_last_tick = sent

    old = signal.signal(signal.SIGALRM, tick)
    try:
        with pytest.raises(Interruption):
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            while True:
                a.send((sent, "x" * 1000))
                sent += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    a.close()
    received = []
    with pytest.raises(EOFError):
        while True:
            received.append(b.recv()[0])
    assert received == list(range(len(received)))
    assert len(received) in (sent, sent + 1)
    assert sent < 10_000


@pytest.mark.parametrize("how", ["close", "kill"])
def test_blocked_sender_learns_of_the_end(start, how):
    a, b = Pipe()
    go = Event()
    child = start(close_or_sleep, b, a, go, how)
    b.close()
    with a:
        a.send(bytes(4 * CHUNK))
        if how == "close":
            go.set()
        else:
            threading.Timer(0.01, child.kill).start()
        with pytest.raises(BrokenPipeError):
            while True:
                a.send(bytes(4 * CHUNK))


def close_or_sleep(conn, other, go, how):
    other.close()
    if how == "kill":
        signal.pause()
    go.wait()
    conn.close()


def send_many(conn, k, count):
    for i in range(count):
        conn.send((k, i, "x" * (i % 700)))


def count_many(conn, other, results):
    other.close()
    counts = {}
    try:
        while True:
            k, i, text = conn.recv()
            assert len(text) == i % 700
            counts.setdefault(k, []).append(i)
    except EOFError:
        pass
    assert all(numbers == sorted(numbers) for numbers in counts.values())
    results.put(sum(map(len, counts.values())))


def test_many_processes_share_an_end(start):
    r, w = Pipe(duplex=False)
    results = SimpleQueue()
    readers = [start(count_many, r, w, results) for _ in range(4)]
    writers = [start(send_many, w, k, 300) for k in range(16)]
    w.close()
    r.close()
    for child in writers + readers:
        child.join(DEADLINE)
    assert sum(results.get() for _ in readers) == 16 * 300


def test_no_descriptor_at_all():
    fd = socket.socket().detach()
    conn = Connection(fd)
    os.close(fd)
    for use in (conn.recv, conn.poll, lambda: conn.send(1)):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.EBADF
    conn._handle = None
