"""Bad input on sockets: garbage, frames cut off or of forged lengths, silence, pickles that do harm.

Nothing that a stranger says is unpickled or makes us allocate, and others are served meanwhile. Who has
proved to know the key may do all that unpickling can; what he sends by mistake is an exception on his side.
"""

import contextlib
import io
import os
import pickle
import random
import socket
import struct
import threading

import pytest

import fastmp
from fastmp import AuthenticationError, connection, forkserver, reduction, resource_sharer
from fastmp._managers import server
from fastmp.connection import Client, Connection, Listener
from fastmp.forkserver import _forkserver
from fastmp.managers import SyncManager

DEADLINE = 30.0
KEY = b"the key"
CUT = "got end of file during message"


def framed(body, length=None):
    return struct.pack("!i", len(body) if length is None else length) + body


def long_header(length):
    return struct.pack("!iQ", -1, length)


# ---- connections -----------------------------------------------------------------------------------


@pytest.fixture(params=["socket", "pipe"])
def stream(request):
    """A connection that reads, and a function for what it is to read; without an argument, the end."""
    if request.param == "socket":
        ours, theirs = socket.socketpair()
        reader, writer = ours.detach(), theirs.detach()
    else:
        reader, writer = os.pipe()
    ends = contextlib.ExitStack()
    ends.callback(os.close, writer)

    def say(data=None):
        if data is None:
            ends.close()
        else:
            os.write(writer, data)

    with ends, Connection(reader, writable=False) as conn:
        yield conn, say


def messages_in(data):
    """What a reader of frames makes of this, then the end: bytes, and how it ends."""
    file = io.BytesIO(data)
    while header := file.read(4):
        if len(header) < 4:
            return (yield OSError)
        (length,) = struct.unpack("!i", header)
        if length == -1:
            more = file.read(8)
            if len(more) < 8:
                return (yield OSError)
            (length,) = struct.unpack("!Q", more)
        body = file.read(max(0, min(length, len(data))))
        if length < 0 or length > len(body):
            return (yield OSError if 0 <= length < 1 << 31 else (OSError, MemoryError, OverflowError))
        yield body
    yield EOFError


def random_stream(random):
    """Frames, with something wrong here and there."""
    parts = []
    for _ in range(random.randrange(5)):
        body = random.randbytes(random.choice([0, 1, 3, 4, 100, 5000]))
        parts.append(
            random.choice(
                [
                    *[framed(body)] * 4,
                    long_header(len(body)) + body,
                    framed(body, random.choice([-2, -(2**31), 2**31 - 1, len(body) + 1])),
                    long_header(random.choice([2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1])),
                    body,
                ]
            )
        )
    whole = b"".join(parts)
    return whole[: len(whole) - random.choice([0, 0, 1, 2, 5])]


@pytest.mark.parametrize("seed", range(60))
def test_frames_are_read_as_they_are_or_refused(stream, seed):
    conn, say = stream
    data = random_stream(random.Random(seed))
    say(data)
    say()
    for expected in messages_in(data):
        if isinstance(expected, bytes):
            assert conn.recv_bytes() == expected
        else:
            with pytest.raises(expected):
                conn.recv_bytes()


def test_a_frame_cut_off_is_an_error(stream):
    conn, say = stream
    say(framed(b"all") + framed(b"ever", 5))
    say()
    assert conn.recv_bytes() == b"all"
    with pytest.raises(OSError, match=CUT):
        conn.recv_bytes()


@pytest.mark.parametrize("length", [2**31 - 1, 2**40, 2**62, 2**64 - 1])
def test_a_forged_length_is_not_believed(stream, length):
    """What is allocated for it is not touched; with a limit nothing is."""
    conn, say = stream
    say(framed(b"", length) if length < 2**31 else long_header(length))
    with pytest.raises(OSError, match="bad message length"):
        conn.recv_bytes(2**20)


def garbage_pickles(seed):
    """Bytes that nobody pickled, and pickles with some bytes changed."""
    generator = random.Random(seed)
    whole = pickle.dumps([1, "text", {"key": (2.5, None)}, b"bytes", {3, 4}])
    for _ in range(300):
        yield generator.randbytes(generator.randrange(40))
        changed = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            changed[generator.randrange(len(changed))] = generator.choice(b"0123.()]}tNKCX\x80\x95\x8c\x94")
        yield bytes(changed[: generator.choice([None, -1, 10])])


@pytest.mark.parametrize("name", ["Pipe", "Queue", "SimpleQueue"])
def test_garbage_is_an_exception_of_unpickling(name):
    if name == "Pipe":
        writer, reader = fastmp.Pipe()
        put, get, send = writer.send, reader.recv, writer.send_bytes
    else:
        queue = getattr(fastmp, name)()
        put, get, send = queue.put, queue.get, queue._writer.send_bytes
    for garbage in garbage_pickles(1):
        if set(garbage) & set(b"cioR\x81\x92\x93"):
            continue  # it may import or call something
        send(garbage)
        with contextlib.suppress(Exception):
            get()
    put("next")
    assert get() == "next"


# ---- strangers -------------------------------------------------------------------------------------


class Bomb:
    """Leaves a trace where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class ListenerUnderFire:
    """A program that listens, and echoes."""

    def __init__(self, family):
        self._listener = Listener(family=family, backlog=128, authkey=KEY)
        self.address = self._listener.address
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                conn = self._listener.accept()
            except (AuthenticationError, EOFError, OSError):
                continue
            with conn:
                message = conn.recv()
                if message is None:
                    return
                conn.send(message)

    def check(self, message="message"):
        with Client(self.address, authkey=KEY) as conn:
            conn.send(message)
            if message is not None:
                assert conn.recv() == message

    def close(self):
        self.check(None)
        self._thread.join(DEADLINE)
        self._listener.close()


class ManagerUnderFire:
    def __init__(self, family):
        self._manager = SyncManager(connection.arbitrary_address(family), KEY)
        self._manager.start()
        self.address = self._manager.address

    def check(self):
        assert self._manager.list([1])[:] == [1]

    def close(self):
        self._manager.shutdown()


class SharerUnderFire:
    """The thread that gives away descriptors."""

    def __init__(self, family):
        self.check()
        self.address = resource_sharer._resource_sharer._listener.address

    def check(self):
        ours, theirs = socket.socketpair()
        with ours, theirs, reduction.loads(reduction.dumps(theirs)) as copy:
            ours.send(b"hello")
            assert copy.recv(10) == b"hello"

    def close(self):
        resource_sharer.stop(DEADLINE)


PLACES = [
    *((kind, family) for kind in (ListenerUnderFire, ManagerUnderFire) for family in ("AF_UNIX", "AF_INET")),
    (SharerUnderFire, "AF_UNIX"),
]


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0].__name__.removesuffix('UnderFire')}-{place[1]}")
def under_fire(request):
    kind, family = request.param
    target = kind(family)
    yield target
    target.check()
    target.close()


@pytest.fixture
def visit(under_fire):
    """A function that connects to it without a key."""
    family = getattr(socket, connection.address_type(under_fire.address))
    with contextlib.ExitStack() as sockets:

        def connect():
            sock = sockets.enter_context(socket.socket(family))
            sock.settimeout(DEADLINE)
            sock.connect(under_fire.address)
            return sock

        yield connect


def is_turned_away(sock):
    """After what it has to say: the end."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            pass
    return True


FRAMES = {
    "nothing": b"",
    "half a header": b"\0\0",
    "half a body": framed(b"{sha256}", 40),
    "garbage": bytes(range(256)) * 40,
    "web": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "negative length": framed(b"", -5),
    "2 GiB": framed(b"", 2**31 - 1),
    "2 EiB": long_header(2**61),
    "just too long": framed(bytes(connection.LONGEST_PROOF + 1)),
    "empty answer": framed(b""),
    "wrong proof": framed(b"{sha256}" + bytes(32)),
    "old proof": framed(bytes(16)),
    "unknown digest": framed(b"{crc32}" + bytes(4)),
    "welcome": framed(connection.WELCOME),
    "challenge": framed(connection.CHALLENGE + b"{sha256}" + bytes(40)),
}


def test_strangers_are_turned_away_and_others_served(under_fire, visit):
    for said in FRAMES.values():
        sock = visit()
        with contextlib.suppress(OSError):  # turned away already
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
        assert is_turned_away(sock)
        sock.close()
    under_fire.check()


def test_the_silent_do_not_lock_others_out(under_fire, visit, monkeypatch):
    if isinstance(under_fire, ListenerUnderFire):  # one after the other, but not for ever
        monkeypatch.setattr(connection, "PROOF_SECONDS", 1.0)
    for said in "half a header", "half a body":
        visit().sendall(FRAMES[said])
    under_fire.check()


def test_nothing_of_a_stranger_is_unpickled(under_fire, visit, tmp_path):
    trace = tmp_path / "loaded"
    pickled = pickle.dumps(Bomb(trace))
    errand = pickle.dumps((None, "create", ("list", [Bomb(trace)]), {}))
    for said in (
        pickled,
        framed(pickled),
        framed(b"{sha256}" + bytes(32)) + framed(pickled),
        framed(connection.WELCOME) + framed(errand),
        framed(b"") + framed(errand),
    ):
        sock = visit()
        with contextlib.suppress(OSError):  # turned away already
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
        assert is_turned_away(sock)
    under_fire.check()
    assert not trace.exists()
    pickle.loads(pickled)
    assert trace.exists()  # it would have worked


def test_a_client_unpickles_nothing_before_the_proof(tmp_path):
    trace = tmp_path / "loaded"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))
        listener.listen()

        def impostor():
            sock, _ = listener.accept()
            with sock:
                challenge = framed(connection.CHALLENGE + b"{sha256}" + bytes(40))
                sock.sendall(challenge + framed(connection.WELCOME) + framed(b"{sha256}" + bytes(32)))
                with contextlib.suppress(OSError):
                    sock.sendall(framed(pickle.dumps(Bomb(trace))))
                is_turned_away(sock)

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(AuthenticationError), Client(listener.getsockname(), authkey=KEY) as conn:
            conn.recv()
        thread.join(DEADLINE)
    assert not trace.exists()


def test_strangers_at_a_manager_are_few():
    with SyncManager(("localhost", 0), KEY) as manager, contextlib.ExitStack() as sockets:
        strangers = [
            sockets.enter_context(socket.create_connection(manager.address, DEADLINE))
            for _ in range(2 * server.MOST_GUESTS)
        ]
        assert manager.list([1])[:] == [1]
        assert is_turned_away(strangers[0])


# ---- those who know the key ------------------------------------------------------------------------


@pytest.fixture
def manager():
    with SyncManager(authkey=KEY) as manager:
        yield manager
        assert manager.list([1])[:] == [1]


NO_REQUESTS = [
    None,
    5,
    (),
    (1,),
    (None, None),
    (None, "no such errand", (), {}),
    ("x", "append", (), {}),
    [[]] * 9,
]


@pytest.mark.parametrize("request_", NO_REQUESTS, ids=repr)
def test_what_is_no_request_is_answered(manager, request_):
    with Client(manager.address, authkey=KEY) as conn:
        conn.send(request_)
        assert conn.recv()[0] == "#TRACEBACK"


def test_garbage_and_silence_after_the_proof(manager):
    with contextlib.ExitStack() as clients:
        for said in (
            b"",
            framed(b""),
            framed(b"garbage"),
            framed(b"\x80", 2**31 - 1),
            b"\0",
            long_header(2**60),
        ):
            conn = clients.enter_context(Client(manager.address, authkey=KEY))
            os.write(conn.fileno(), said)
        assert manager.list([1])[:] == [1]


def test_the_fork_server_survives_requests_that_are_none(ctx_of_server):
    for request in (
        b"",
        b"garbage",
        pickle.dumps(None),
        pickle.dumps((0, None, -1, [])),
        pickle.dumps((0,) * 4),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(_forkserver._forkserver_address)
            key = _forkserver._forkserver_authkey
            nonces = forkserver._greet(sock, key)
            sock.send(forkserver._prove(key, b"client", nonces, request) + request)
            assert is_turned_away(sock)
    child = ctx_of_server.Process(target=int)
    pid = _forkserver._forkserver_pid
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == 0
    assert _forkserver._forkserver_pid == pid


@pytest.fixture
def ctx_of_server():
    forkserver.ensure_running()
    return fastmp.get_context("forkserver")
