"""Listeners, clients, the proof that both know the key, pipes and wait()."""

import hashlib
import hmac
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from processes import blocked
from waiting import DEADLINE, Interruption, wait_until

from fastmp import AuthenticationError, connection
from fastmp.connection import (
    Client,
    Connection,
    ConnectionWrapper,
    Listener,
    Pipe,
    XmlClient,
    XmlListener,
    answer_challenge,
    deliver_challenge,
    wait,
)

KEY = b"the key"
FAMILIES = ["AF_UNIX", "AF_INET"]


# ---- listeners and clients -----------------------------------------------------------------------


def greet(address, key):
    with Client(address, authkey=key) as conn:
        conn.send("hello from a child")
        assert conn.recv() == "welcome"


@pytest.mark.parametrize("key", [None, KEY, b""])
@pytest.mark.parametrize("family", FAMILIES)
def test_client_in_a_child(ctx, finish, family, key):
    with Listener(family=family, authkey=key) as listener:
        child = ctx.Process(target=greet, args=(listener.address, key))
        child.start()
        with listener.accept() as conn:
            assert type(conn) is Connection
            assert conn.recv() == "hello from a child"
            conn.send("welcome")
            finish(child)
            with pytest.raises(EOFError):
                conn.recv()
    assert child.exitcode == 0


def test_default_address_leaves_no_file():
    with Listener() as listener:
        assert connection.default_family == "AF_UNIX"
        assert connection.address_type(listener.address) == "AF_UNIX"
        assert listener.address[0] == 0  # an abstract name
        assert listener.last_accepted is None


def test_default_addresses_differ():
    with Listener() as first, Listener() as second:
        assert first.address != second.address


def test_file_of_a_path_goes_with_the_listener(tmp_path, in_thread):
    path = str(tmp_path / "socket")
    with Listener(path) as listener:
        assert listener.address == path
        assert os.path.exists(path)
        client = in_thread(Client, path)
        with listener.accept(), client():
            pass
        with pytest.raises(OSError):
            Listener(path)
        assert os.path.exists(path)  # the failed one took nothing away
    assert not os.path.exists(path)
    with Listener(path):
        pass


@pytest.mark.start_methods("fork")  # a listener is no argument
def test_file_of_a_path_stays_when_a_child_ends(ctx, finish, tmp_path):
    path = str(tmp_path / "socket")
    with Listener(path) as listener:
        child = ctx.Process(target=listener.close)
        child.start()
        finish(child)
        assert os.path.exists(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_addresses(family):
    with Listener(connection.arbitrary_address(family), backlog=4) as listener:
        assert connection.address_type(listener.address) == family
        with Client(listener.address) as client, listener.accept() as server:
            server.send(b"x" * 100_000)
            assert client.recv() == b"x" * 100_000
            if family == "AF_INET":
                assert listener.last_accepted[0] == "127.0.0.1"


def test_bad_arguments():
    with pytest.raises(ValueError, match="Family AF_NONSENSE is not recognized"):
        Listener(family="AF_NONSENSE")
    with pytest.raises(ValueError, match="Family AF_PIPE is not recognized"):
        Client(r"\\.\pipe\name")
    with pytest.raises(TypeError, match="address type of 5 unrecognized"):
        Client(5)
    with pytest.raises(ValueError, match=r"address type of \[\] unrecognized"):
        Client([])
    with pytest.raises(ValueError, match="unrecognized family"):
        connection.arbitrary_address("AF_NONSENSE")
    with pytest.raises(TypeError, match="authkey should be a byte string"):
        Listener(authkey="text")
    with Listener() as listener, pytest.raises(TypeError, match="authkey should be a byte string"):
        Client(listener.address, authkey="text")


def test_closed_listener():
    listener = Listener()
    address = listener.address
    listener.close()
    listener.close()
    with pytest.raises(OSError, match="listener is closed"):
        listener.accept()
    with pytest.raises(ConnectionRefusedError):
        Client(address)


@pytest.mark.parametrize("key", [None, KEY])
def test_no_client_of_another_user(monkeypatch, in_thread, key):
    """The default address is a name that anybody may connect to (tests/test_security.py has real users)."""
    with Listener(authkey=key) as listener, socket.socket(socket.AF_UNIX) as stranger:
        asked = []

        def same_user(sock, real=connection._same_user):
            asked.append(real(sock))
            return len(asked) > 1

        monkeypatch.setattr(connection, "_same_user", same_user)
        stranger.connect(listener.address)
        accepted = in_thread(listener.accept)
        assert stranger.recv(100) == b""
        with Client(listener.address, authkey=key) as friend, accepted() as conn:
            friend.send(1)
            assert conn.recv() == 1
        assert asked == [True, True, True]  # the friend asked, too


def test_no_listener_of_another_user(monkeypatch):
    with Listener() as listener:
        monkeypatch.setattr(connection, "_same_user", lambda sock: False)
        with pytest.raises(AuthenticationError, match="another user"):
            Client(listener.address)


# ---- the proof -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_key(family, in_thread):
    with Listener(family=family, authkey=KEY) as listener:
        client = in_thread(Client, listener.address, authkey=b"wrong")
        with pytest.raises(AuthenticationError, match="digest received was wrong"):
            listener.accept()
        with pytest.raises(AuthenticationError, match="digest sent was rejected"):
            client()
        client = in_thread(Client, listener.address, authkey=KEY)  # the listener goes on
        with listener.accept(), client():
            pass


def test_listener_that_does_not_know_the_key(in_thread):
    with Listener() as listener:
        client = in_thread(Client, listener.address, authkey=KEY)
        with listener.accept() as conn:
            conn.send_bytes(connection.CHALLENGE + b"{sha256}" + bytes(40))
            conn.recv_bytes()
            conn.send_bytes(connection.WELCOME)
            conn.recv_bytes()
            conn.send_bytes(b"{sha256}" + bytes(32))
            with pytest.raises(AuthenticationError, match="digest received was wrong"):
                client()


class Script:
    """A peer that says what it was told to, and remembers what it heard."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.heard = []

    def recv_bytes(self, maxlength=None):
        return self.lines.pop(0)

    def send_bytes(self, message):
        self.heard.append(bytes(message))


def test_answer_to_an_old_challenge():
    peer = Script(b"#CHALLENGE#" + b"m" * 20, b"#WELCOME#")
    answer_challenge(peer, KEY)
    assert peer.heard == [hmac.new(KEY, b"m" * 20, "md5").digest()]


@pytest.mark.parametrize("digest", ["md5", "sha256", "sha384", "sha3_256", "sha3_384"])
def test_answer_to_a_challenge(digest):
    message = b"{%s}" % digest.encode() + b"m" * 40
    peer = Script(b"#CHALLENGE#" + message, b"#WELCOME#")
    answer_challenge(peer, KEY)
    assert peer.heard == [b"{%s}" % digest.encode() + hmac.new(KEY, message, digest).digest()]


@pytest.mark.parametrize("digest", ["", "md5", "sha256", "sha384"])
def test_challenge_accepts_answers_old_and_new(digest):
    class Peer(Script):
        def recv_bytes(self, maxlength=None):
            message = self.heard[-1].removeprefix(b"#CHALLENGE#")
            proof = hmac.new(KEY, message, digest or "md5").digest()
            return (b"{%s}" % digest.encode() if digest else b"") + proof

    peer = Peer()
    deliver_challenge(peer, KEY)
    assert peer.heard[0].startswith(b"#CHALLENGE#{sha256}")
    assert len(peer.heard[0]) == 11 + 8 + 40
    assert peer.heard[1:] == [b"#WELCOME#"]


@pytest.mark.parametrize("answer", [b"", b"bogus", b"x" * 16, b"{sha256}x", b"{none}" + bytes(32), bytes(32)])
def test_challenge_refuses_other_answers(answer):
    peer = Script(answer)
    with pytest.raises(AuthenticationError):
        deliver_challenge(peer, KEY)
    assert peer.heard[1:] == [b"#FAILURE#"]


@pytest.mark.parametrize(
    "challenge",
    [
        b"bogus",
        b"#CHALLENGE#",
        b"#CHALLENGE#short",
        b"#CHALLENGE#" + bytes(30),
        b"#CHALLENGE#{none}" + bytes(40),
    ],
)
def test_no_answer_to_something_else(challenge):
    peer = Script(challenge, b"#WELCOME#")
    with pytest.raises(AuthenticationError):
        answer_challenge(peer, KEY)
    assert peer.heard == []


def test_rejected_answer():
    with pytest.raises(AuthenticationError, match="digest sent was rejected"):
        answer_challenge(Script(b"#CHALLENGE#" + bytes(20), b"#FAILURE#"), KEY)


def test_keys_are_bytes():
    for prove in (answer_challenge, deliver_challenge):
        with pytest.raises(ValueError, match="must be bytes"):
            prove(Script(), "text")


def test_unknown_peer_cannot_make_us_allocate(in_thread):
    with Listener(authkey=KEY) as listener, socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(listener.address)
        accepted = in_thread(listener.accept)
        stranger.sendall(struct.pack("!i", -1) + struct.pack("!Q", 1 << 40))
        with pytest.raises(OSError, match="bad message length"):
            accepted()


@pytest.mark.parametrize("said", [b"", b"\0\0", struct.pack("!i", 40) + b"some"])
def test_unknown_peer_cannot_hold_us(said, monkeypatch, in_thread):
    monkeypatch.setattr(connection, "PROOF_SECONDS", 0.2)
    with Listener(authkey=KEY) as listener, socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(listener.address)
        stranger.sendall(said)
        with pytest.raises(AuthenticationError, match="did not prove to know the key"):
            listener.accept()


def test_peer_that_leaves(in_thread):
    with Listener(authkey=KEY) as listener:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(listener.address)
        with pytest.raises((EOFError, ConnectionError)):
            listener.accept()


def test_client_timeout():
    with Listener(authkey=KEY) as listener, pytest.raises(TimeoutError):
        Client(listener.address, authkey=KEY, timeout=0.05)  # nobody accepts


STANDARD_CLIENT = """
import sys
from multiprocessing.connection import Client
with Client(sys.argv[1], authkey=b"the key") as conn:
    conn.send(conn.recv() * 2)
    conn.send_bytes(b"x" * 100000)
"""

STANDARD_LISTENER = """
import sys
from multiprocessing.connection import Listener
with Listener(sys.argv[1], authkey=b"the key") as listener:
    print("ready", flush=True)
    with listener.accept() as conn:
        conn.send(conn.recv() * 2)
        conn.send_bytes(b"x" * 100000)
"""


def test_client_of_the_standard_library(tmp_path):
    path = str(tmp_path / "socket")
    with Listener(path, authkey=KEY) as listener:
        child = subprocess.Popen([sys.executable, "-c", STANDARD_CLIENT, path])
        with listener.accept() as conn:
            conn.send([1, "two"])
            assert conn.recv() == [1, "two", 1, "two"]
            assert conn.recv_bytes() == b"x" * 100000
        assert child.wait(30) == 0


def test_listener_of_the_standard_library(tmp_path):
    path = str(tmp_path / "socket")
    child = subprocess.Popen([sys.executable, "-c", STANDARD_LISTENER, path], stdout=subprocess.PIPE)
    with child.stdout:
        assert child.stdout.readline() == b"ready\n"
        with Client(path, authkey=KEY) as conn:
            conn.send([1, "two"])
            assert conn.recv() == [1, "two", 1, "two"]
            assert conn.recv_bytes() == b"x" * 100000
    assert child.wait(30) == 0


# ---- other connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY])
def test_xml(in_thread, key):
    with XmlListener(authkey=key) as listener:
        client = in_thread(XmlClient, listener.address, authkey=key)
        server = listener.accept()
        client = client()
        client.send([1, "two", {"three": 3.0}, None])
        assert server.poll(10)
        assert server.recv() == [1, "two", {"three": 3.0}, None]
        server.close()
        client.close()


def test_connection_wrapper():
    left, right = Pipe()
    wrapped = ConnectionWrapper(right, lambda obj: repr(obj).encode(), lambda data: data.decode())
    with left, right:
        left.send_bytes(b"raw")
        assert wrapped.recv() == "raw"
        wrapped.send([1])
        assert left.recv_bytes() == b"[1]"
        assert wrapped.fileno() == right.fileno()


def test_pipe():
    first, second = Pipe()
    with first, second:
        first.send("one")
        assert second.recv() == "one"
        second.send("two")
        assert first.recv() == "two"
    reader, writer = Pipe(duplex=False)
    with reader, writer:
        assert (reader.readable, reader.writable) == (True, False)
        assert (writer.readable, writer.writable) == (False, True)
        writer.send(hashlib.sha256)
        assert reader.recv() is hashlib.sha256
        with pytest.raises(OSError, match="read-only"):
            reader.send(1)
        with pytest.raises(OSError, match="write-only"):
            writer.recv()


# ---- wait ------------------------------------------------------------------------------------------


def test_wait_tells_what_is_ready(ctx, finish):
    quiet, quiet_end = Pipe()
    talking, talking_end = Pipe()
    closed, closed_end = Pipe()
    left, right = socket.socketpair()
    child = ctx.Process(target=int)
    child.start()
    finish(child)
    with quiet, quiet_end, talking, talking_end, closed, left, right:
        everything = [quiet, talking, closed, left, child.sentinel]
        closed_end.close()
        talking_end.send(1)
        assert wait(everything, 10) == [talking, closed, child.sentinel]
        right.send(b"x")
        assert wait(iter(everything)) == [talking, closed, left, child.sentinel]
        assert wait([quiet, quiet], 0) == []
        assert wait([talking, talking]) == [talking, talking]


def test_wait_times_out():
    quiet, end = Pipe()
    with quiet, end:
        start = time.monotonic()
        assert wait([quiet], timeout=0.05) == []
        assert time.monotonic() - start >= 0.05
        assert wait([quiet], timeout=-1) == []
        assert wait([quiet], timeout=0) == []


def test_wait_for_nothing():
    assert wait([]) == []
    start = time.monotonic()
    assert wait([], timeout=0.05) == []
    assert time.monotonic() - start >= 0.05


def test_wait_accepts_any_timeout():
    ready, end = Pipe()
    with ready, end:
        end.send(1)
        assert wait([ready], timeout=1e10) == [ready]
        assert wait([ready], timeout=float("inf")) == [ready]


def test_wait_refuses_what_is_closed():
    first, second = Pipe()
    first.close()
    second.close()
    with pytest.raises(OSError, match="handle is closed"):
        wait([first], 0)


def interrupted_wait(conn):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        conn.send("waiting")
        wait([conn])
    except KeyboardInterrupt:
        conn.send("interrupted")


def test_wait_is_interrupted(ctx, finish):
    ours, theirs = Pipe()
    with ours, theirs:
        child = ctx.Process(target=interrupted_wait, args=(theirs,))
        child.start()
        theirs.close()
        assert ours.recv() == "waiting"
        os.kill(child.pid, signal.SIGINT)
        assert ours.recv() == "interrupted"
        finish(child)
    assert child.exitcode == 0


def accept_a_client():
    with Listener() as listener:
        listener.accept()


def wait_for_a_message():
    ready, end = Pipe()
    with ready, end:
        wait([ready])


def be_a_client_unnoticed():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))
        listener.listen()
        Client(listener.getsockname(), authkey=KEY)


@pytest.mark.parametrize("call", [accept_a_client, be_a_client_unnoticed, wait_for_a_message])
def test_a_signal_that_did_not_end_the_sleep_is_handled(call):
    """As if it had come just before: it is another thread that it strikes."""

    def handle(number, frame):
        raise Interruption

    def strike(main):
        wait_until(lambda: blocked(os.getpid(), main))
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    old = signal.signal(signal.SIGUSR1, handle)
    try:
        thread = threading.Thread(target=strike, args=[threading.get_native_id()])
        thread.start()
        with pytest.raises(Interruption):
            call()
        thread.join(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, old)
