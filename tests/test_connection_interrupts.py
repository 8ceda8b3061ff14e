"""Connections: exceptions of signal handlers in the midst of a message."""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from processes import blocked
from waiting import DEADLINE, Interruption

from fastmp import BufferTooShort, Lock, Pipe, RawValue, _core, connection, get_context

CHUNK = 1 << 20  # more than there is room for in a socket


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
            if blocked(os.getpid(), main):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            time.sleep(0.001)

    main = threading.get_native_id()
    old = signal.signal(signal.SIGUSR1, handle)
    yield run
    signal.signal(signal.SIGUSR1, old)


@pytest.mark.parametrize("ends", ["pair", "stream", "piped"])
def test_interrupted_before_anything_came(ends, request, interrupted):
    r, w = request.getfixturevalue(ends)
    for wait in (r.recv, r.recv_bytes, lambda: r.recv_bytes_into(bytearray(9)), lambda: r.poll(None)):
        interrupted(wait)
    w.send(1)
    assert r.recv() == 1


@pytest.mark.parametrize("part", [1, 4, 6])
@pytest.mark.parametrize("second", ["bytes", "into", "object"])
@pytest.mark.parametrize("first", ["bytes", "into"])
def test_interrupted_in_the_middle_of_a_message(stream, interrupted, first, second, part):
    a, b = stream
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


def test_interrupted_then_refused(stream, interrupted):
    a, b = stream
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


@pytest.mark.parametrize("ends", ["stream", "piped"])
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


def test_what_an_interrupted_message_carries_goes_with_the_rest_of_it(stream, interrupted, in_thread):
    a, b = stream
    before = _core.arena_info()
    lock = Lock()
    lock.acquire()
    message = (lock, bytes(4 * CHUNK))
    interrupted(lambda: a.send(message))
    lock = message = None
    received = in_thread(lambda: [b.recv() for _ in range(2)])
    a.send("the next")
    (lock, _), _ = received()
    assert not lock.acquire(False)
    lock = received = None
    assert _core.arena_info() == before


def test_what_a_message_carries_that_was_not_sent_is_not_kept(stream, interrupted):
    a, _ = stream
    before = _core.arena_info()
    sock = socket.socket(fileno=os.dup(a.fileno()))
    with sock, pytest.raises(BlockingIOError):
        while True:
            sock.send(b"\0\0\0\0" * 1024, socket.MSG_DONTWAIT)
    interrupted(lambda: a.send(Lock()))
    assert _core.arena_info() == before


def test_interrupted_before_anything_was_sent(stream, interrupted):
    a, b = stream
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


@pytest.fixture
def until_it_blocks():
    """A function that calls another again and again until that blocks, interrupts it, and tells how often it
    returned."""
    done = seen = 0

    def tick(number, frame):
        nonlocal seen
        if seen == done:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interruption
        seen = done

    def run(call):
        nonlocal done, seen
        done, seen = 0, -1
        with pytest.raises(Interruption):
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            while True:
                call()
                done += 1
        return done

    old = signal.signal(signal.SIGALRM, tick)
    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def send_and_receive_for_ever(reader, writer, rounds):
    while True:
        writer.send("mine")
        reader.recv()
        rounds.value += 1


def test_who_is_stopped_in_the_middle_keeps_nobody_beyond_a_deadline(until_it_blocks):
    """A process that shares both ends is stopped, mostly with a lock of the pipe in its hands."""
    reader, writer = Pipe(False)
    reader.fileno()  # somebody may listen: each message is rung, and silenced, under the lock
    rounds = RawValue("L")
    child = get_context("fork").Process(target=send_and_receive_for_ever, args=(reader, writer, rounds))
    child.start()

    def take():
        return until_it_blocks(reader.recv)

    calls = [lambda: reader.poll(0), lambda: reader.poll(0.001), lambda: connection.wait([reader], 0.001)]
    for call in [*calls, take] * 4:
        before = rounds.value
        while rounds.value == before:
            time.sleep(0)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        result = call()
        os.kill(child.pid, signal.SIGCONT)
        for _ in range(result if call is take else 0):  # else it would wait for what it had sent
            writer.send("yours")
    child.kill()
    child.join(DEADLINE)
    while reader.poll(0):
        reader.recv()
    writer.send("the last")
    assert reader.recv() == "the last"


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
    [
        "a.recv()",
        "a.recv_bytes_into(bytearray(9))",
        "a.poll(None)",
        "a.poll(1e9)",
        "for _ in range(9): a.send(bytes(1 << 22))",
    ],
)
def test_ctrl_c(call):
    run = subprocess.Popen(
        [sys.executable, "-c", CTRL_C.format(call=call)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=DEADLINE)
    assert (run.returncode, out) == (0, "interrupted\n")
