"""Connections between processes: pipes, listeners and their clients, and waiting for several at once.

A `Connection` is the C core's: messages over a descriptor, or, where `Pipe` made it, through shared memory
with a descriptor beside it, for waiting and for the end. This module makes the descriptors.

Who connects to a `Listener` that has a key must prove to know it, and the listener proves the same to the
client. The proof is the standard library's, byte for byte, so either side may be a program that uses that:

    challenger                                          prover
    #CHALLENGE# + {sha256} + 40 random bytes   ->
                                               <-       {sha256} + HMAC(key, {sha256} + the 40 bytes)
    #WELCOME#  or  #FAILURE#                   ->

Before Python 3.12 there was no {digest}: the challenge was 20 bytes, the answer MD5's 16 bytes, computed over
all that follows #CHALLENGE#. An answer of that form is accepted, a challenge of that form gets one.

Until the proof is given the peer is nobody: `_Handshake` reads its messages into a small buffer and within
a time limit, and only then a Connection is made of the socket.

An abstract name, which we choose where the program chooses no address, protects nothing: unlike a path in a
private folder, every user can see it, connect to it, and take it when its listener has ended. So at such a
name each side asks the kernel who the other is. A client that did not could be made to answer challenges
which another user was given elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import socket
import struct
import time
from _operator import _compare_digest as compare_digest  # hmac.py is slow to import

from . import _core, _finalize, _logging, reduction
from ._at_once import at_once
from ._core import AuthenticationError, BufferTooShort, Connection

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol, Self, TypeAlias

    Address: TypeAlias = Any  # a path, an abstract name (it starts with a zero byte), or (host, port)

    class Messages(Protocol):
        """What it takes to prove something to a peer."""

        def recv_bytes(self, maxlength: int, /) -> bytes: ...
        def send_bytes(self, message: bytes, /) -> object: ...


__all__ = [
    "AuthenticationError",
    "BufferTooShort",
    "Client",
    "Connection",
    "ConnectionWrapper",
    "Listener",
    "Pipe",
    "XmlClient",
    "XmlListener",
    "answer_challenge",
    "deliver_challenge",
    "wait",
]

families = ["AF_INET", "AF_UNIX"]
default_family = "AF_UNIX"

CHALLENGE = b"#CHALLENGE#"
WELCOME = b"#WELCOME#"
FAILURE = b"#FAILURE#"
_CHALLENGE, _WELCOME, _FAILURE = CHALLENGE, WELCOME, FAILURE  # their names since 3.12
CHALLENGE_BYTES = 40
MD5_CHALLENGE_SIZES = (16, 20)  # what those that do not name a digest send
LONGEST_PROOF = 256  # of any message before the peer is known; the longest there is has 70 bytes
PROOF_SECONDS = 20.0  # for the whole proof, once the peer has begun
DIGESTS = frozenset({b"md5", b"sha256", b"sha384", b"sha3_256", b"sha3_384"})
FIRST_TURN, LONGEST_TURN = 0.05, 1.0  # seconds of sleep between looks for signals
_OWN_NAME = "\0fastmp-"  # how the abstract names begin that we choose


# ---- pipes ---------------------------------------------------------------------------------------


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """A pair of connected connections. One-way: the first only receives, the second only sends."""
    return _core.pipe(duplex)


def stream_pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """A pair whose descriptors can be used by programs that do not share our memory."""
    return _core.stream_pair(duplex)


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Those of the objects that are ready (something to receive, or the end), as soon as there are any.

    Objects are connections, sockets, sentinels of processes, and all that has a fileno(). The list is
    empty if `timeout` seconds passed first, or if there is nothing to wait for.
    """
    looks = [(obj, *_look(obj)) for obj in object_list]
    if not looks and timeout is None:
        return []
    poll = select.poll()
    for _, fd, _ in looks:
        poll.register(fd, select.POLLIN)
    left = None if timeout is None else max(0.0, timeout)
    if any(ready for _, _, ready in looks):
        left = 0
    polled = {fd for fd, _ in poll_in_turns(poll, left)}
    return [obj for obj, fd, ready in looks if ready or fd in polled]


def poll_in_turns(poll: select.poll, timeout: float | None = None) -> list[tuple[int, int]]:
    """What a poll object finds within `timeout` seconds. A signal that comes between a look for signals
    and the sleep does not end the sleep: its handler runs before the next turn."""
    until = float("inf") if timeout is None else time.monotonic() + timeout
    turn = FIRST_TURN
    while True:
        left = max(0.0, until - time.monotonic())
        found = poll.poll(min(turn, left) * 1000)
        if found or left <= turn:
            return found
        turn = min(2 * turn, LONGEST_TURN)


def _look(obj: Any) -> tuple[int, bool]:
    """The descriptor of an object, and whether it need not be polled."""
    if isinstance(obj, Connection) and type(obj).fileno is Connection.fileno:
        return obj._watch()
    return _descriptor(obj), False


def _descriptor(obj: Any) -> int:
    try:
        fd = obj if isinstance(obj, int) else int(obj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {obj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


# ---- addresses -----------------------------------------------------------------------------------


def arbitrary_address(family: str) -> Address:
    """A free address. A Unix socket's is an abstract name: nothing to clean up, no limit of a path."""
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_UNIX":
        return f"{_OWN_NAME}{os.getpid()}-{os.urandom(16).hex()}"
    raise ValueError("unrecognized family")


def _is_abstract(address: Address) -> bool:
    return bool(address) and address[0] in ("\0", 0)


def _is_own_name(address: Address) -> bool:
    name = os.fsencode(address) if isinstance(address, (str, bytes)) else b""
    return name.startswith(_OWN_NAME.encode())


def address_type(address: Address) -> str:
    """The family that an address belongs to."""
    if isinstance(address, tuple):
        return "AF_INET"
    if isinstance(address, str) and address.startswith("\\\\"):
        return "AF_PIPE"
    if isinstance(address, str) or (isinstance(address, bytes) and _is_abstract(address)):
        return "AF_UNIX"
    kind = ValueError if isinstance(address, bytes) or not address else TypeError
    raise kind(f"address type of {address!r} unrecognized")


def _validate_family(family: str) -> None:
    if family not in families:
        raise ValueError(f"Family {family} is not recognized.")


def _validate_key(authkey: object) -> None:
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")


# ---- the two sides of a connection to be -----------------------------------------------------------


class Listener:
    """Waits at an address for clients; accept() makes a connection of each."""

    def __init__(
        self,
        address: Address = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        family = family or (address and address_type(address)) or default_family
        _validate_family(family)
        _validate_key(authkey)
        self._listener: SocketListener | None = SocketListener(
            address or arbitrary_address(family), family, backlog
        )
        self._authkey = authkey

    def accept(self) -> Connection:
        """The connection to the next client. AuthenticationError if it does not know the key."""
        return self.receive(self.accept_socket())

    def accept_socket(self) -> socket.socket:
        """The first half of accept(), which waits for a client to come."""
        return self._open_listener().accept_socket()

    def accept_one(self) -> socket.socket | None:
        """The same for who waits for other things as well: None if only a stranger had come."""
        return self._open_listener().accept_one()

    def receive(self, sock: socket.socket) -> Connection:
        """The second half, which waits for what that client has to say."""
        return receive_client(sock, self._authkey)

    def fileno(self) -> int:
        """A descriptor that is readable when a client waits."""
        return self._open_listener().fileno()

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @property
    def address(self) -> Address:
        return self._open_listener().address

    @property
    def last_accepted(self) -> Address:
        return self._open_listener().last_accepted

    def _open_listener(self) -> SocketListener:
        if self._listener is None:
            raise OSError("listener is closed")
        return self._listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SocketListener:
    """A listening socket. At an abstract name of ours it takes only clients of the same user, and root."""

    def __init__(self, address: Address, family: str, backlog: int = 1) -> None:
        self.last_accepted: Address = None
        self._private = _is_own_name(address)
        self._maker = os.getpid()
        file = os.path.abspath(address) if family == "AF_UNIX" and not _is_abstract(address) else None
        self._unlink: _finalize.Finalize | None = None
        self._socket = socket.socket(getattr(socket, family))
        try:
            # Else the port of a listener that was closed just now could not be had for a minute.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.listen(backlog)
            self.address: Address = self._socket.getsockname()
            if file is not None:
                self._unlink = _finalize.Finalize(self, _remove_file, (file,), exitpriority=0)
        except BaseException:
            if file is not None and self._socket.getsockname():  # else the file is another's
                _remove_file(file)
            self._socket.close()
            raise
        self._file = file

    def accept(self) -> Connection:
        """The connection to the next client, whoever it is."""
        return receive_client(self.accept_socket(), None)

    def accept_socket(self) -> socket.socket:
        """The socket of the next client."""
        sock = None
        while sock is None:
            _await(self._socket)
            sock = self.accept_one()
        return sock

    def accept_one(self) -> socket.socket | None:
        """The socket of the next who comes; None if that was another user, who was turned away."""
        sock, self.last_accepted = self._socket.accept()
        if self._private and not _same_user(sock):
            _logging.info("a client of another user was turned away")
            sock.close()
            return None
        sock.setblocking(True)
        return sock

    def fileno(self) -> int:
        """A descriptor that is readable when a client waits."""
        return self._socket.fileno()

    def close(self) -> None:
        try:
            self._socket.close()
        finally:
            if self._unlink is not None and self._file is not None and self._maker == os.getpid():
                _remove_file(self._file)
                self._unlink.cancel()
            self._unlink = None


def Client(
    address: Address,
    family: str | None = None,
    authkey: bytes | None = None,
    *,
    timeout: float | None = None,
) -> Connection:
    """A connection to the listener at an address. AuthenticationError if the key is not the same.

    `timeout` bounds the seconds until the listener takes notice, for it may be busy.
    """
    family = family or address_type(address)
    _validate_family(family)
    _validate_key(authkey)
    sock = socket.socket(getattr(socket, family))
    try:
        sock.settimeout(timeout)
        sock.connect(address)
        if _is_own_name(address) and not _same_user(sock):
            raise AuthenticationError("a process of another user listens at this address")
        if authkey is not None:
            _await(sock)
            sock.recv(1, socket.MSG_PEEK)
            handshake = _Handshake(sock)
            answer_challenge(handshake, authkey)
            deliver_challenge(handshake, authkey)
        return _connection(sock)
    except BaseException:
        sock.close()
        raise


def SocketClient(address: Address) -> Connection:
    """A connection to the listener at an address that asks for no key."""
    return Client(address)


def _await(sock: socket.socket) -> None:
    """Before a call of the socket that may wait for ever: a wait that any signal can interrupt."""
    if sock.gettimeout() is None and sock.fileno() >= 0:
        wait([sock])


def receive_client(sock: socket.socket, authkey: bytes | None) -> Connection:
    """Make a connection of an accepted socket, once the client has shown that it knows the key."""
    try:
        if authkey is not None:
            handshake = _Handshake(sock)
            deliver_challenge(handshake, authkey)
            answer_challenge(handshake, authkey)
        return _connection(sock)
    except BaseException:
        sock.close()
        raise


def _connection(sock: socket.socket) -> Connection:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each message is waited for
    sock.settimeout(None)
    connection: Connection = at_once(Connection, socket.SocketType.detach, sock)
    return connection


def _same_user(sock: socket.socket) -> bool:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user in (os.geteuid(), 0)


def _remove_file(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# ---- proving to know the key -----------------------------------------------------------------------


class _Handshake:
    """Messages of a peer that is not trusted yet: short ones, and all of them within a time limit."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._until = time.monotonic() + PROOF_SECONDS

    def recv_bytes(self, maxlength: int) -> bytes:
        (length,) = struct.unpack("!i", self._recv_exactly(4))
        if not 0 <= length <= maxlength:
            raise OSError("bad message length")
        return self._recv_exactly(length)

    def send_bytes(self, message: bytes) -> None:
        self._arm()
        self._sock.sendall(struct.pack("!i", len(message)) + message)

    def _recv_exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            self._arm()
            try:
                piece = self._sock.recv(length - len(data))
            except TimeoutError:
                self._arm()
                raise
            if not piece:
                raise EOFError
            data += piece
        return data

    def _arm(self) -> None:
        """No call on the socket may take longer than what is left of the time."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise AuthenticationError(f"the peer did not prove to know the key in {PROOF_SECONDS:g} seconds")
        self._sock.settimeout(left)


def deliver_challenge(connection: Messages, authkey: bytes, digest_name: str = "sha256") -> None:
    """Have the peer prove that it knows the key."""
    _require_bytes(authkey)
    message = b"{%s}%s" % (digest_name.encode("ascii"), os.urandom(CHALLENGE_BYTES))
    connection.send_bytes(CHALLENGE + message)
    response = connection.recv_bytes(LONGEST_PROOF)
    try:
        _verify_challenge(authkey, message, response)
    except AuthenticationError:
        connection.send_bytes(FAILURE)
        raise
    connection.send_bytes(WELCOME)


def answer_challenge(connection: Messages, authkey: bytes) -> None:
    """Prove to the peer that the key is known here."""
    _require_bytes(authkey)
    message = connection.recv_bytes(LONGEST_PROOF)
    if not message.startswith(CHALLENGE):
        raise AuthenticationError(f"Protocol error, expected challenge: {message=}")
    challenge = message[len(CHALLENGE) :]
    if len(challenge) < max(MD5_CHALLENGE_SIZES):
        raise AuthenticationError(f"challenge too short: {len(challenge)} bytes")
    connection.send_bytes(_create_response(authkey, challenge))
    if connection.recv_bytes(LONGEST_PROOF) != WELCOME:
        raise AuthenticationError("digest sent was rejected")


def _require_bytes(authkey: object) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)}")


def _digest(authkey: bytes, message: bytes, name: str) -> bytes:
    # It brings OpenSSL along, which no user of pipes should have to wait for.
    digest: bytes = importlib.import_module("hmac").digest(authkey, message, name)
    return digest


def _create_response(authkey: bytes, message: bytes) -> bytes:
    """The answer to a challenge, in the form of the challenge."""
    digest, _ = _get_digest_name_and_payload(message)
    if not digest:
        return _digest(authkey, message, "md5")
    return b"{%s}%s" % (digest.encode("ascii"), _digest(authkey, message, digest))


def _verify_challenge(authkey: bytes, message: bytes, response: bytes) -> None:
    """AuthenticationError unless this is the answer of who knows the key."""
    digest, proof = _get_digest_name_and_payload(response)
    digest = digest or "md5"
    expected = _digest(authkey, message, digest)
    if len(expected) != len(proof):
        raise AuthenticationError(
            f"expected {digest!r} of length {len(expected)} got {len(proof)}: digest received was wrong"
        )
    if not compare_digest(expected, proof):
        raise AuthenticationError("digest received was wrong")


def _get_digest_name_and_payload(message: bytes) -> tuple[str, bytes]:
    """Split {digest}payload. Without the prefix, and of the size that MD5 had, there is no name."""
    if len(message) in MD5_CHALLENGE_SIZES:
        return "", message
    name, brace, payload = message.partition(b"}")
    if brace and name.startswith(b"{") and name[1:] in DIGESTS:
        return name[1:].decode("ascii"), payload
    raise AuthenticationError(
        f"unsupported message length, missing digest prefix, or unsupported digest: {message=}"
    )


# ---- connections of another serialisation ------------------------------------------------------------


class ConnectionWrapper:
    """A connection that turns objects into messages by functions of the caller's."""

    def __init__(
        self, conn: Connection, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]
    ) -> None:
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        self.fileno = conn.fileno
        self.close = conn.close
        self.poll = conn.poll
        self.recv_bytes = conn.recv_bytes
        self.send_bytes = conn.send_bytes

    def send(self, obj: Any) -> None:
        self._conn.send_bytes(self._dumps(obj))

    def recv(self) -> Any:
        return self._loads(self._conn.recv_bytes())


def _xmlrpc() -> Any:
    # It brings half of the HTTP modules along, which no user of pipes should have to wait for.
    return importlib.import_module("xmlrpc.client")


def _xml_dumps(obj: Any) -> bytes:
    text: str = _xmlrpc().dumps((obj,), None, None, None, True)
    return text.encode("utf-8")


def _xml_loads(data: bytes) -> Any:
    (obj,), _ = _xmlrpc().loads(data.decode("utf-8"))
    return obj


class XmlListener(Listener):
    """A listener whose connections speak XML-RPC's encoding."""

    def receive(self, sock: socket.socket) -> Any:
        return ConnectionWrapper(super().receive(sock), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwargs: Any) -> ConnectionWrapper:
    """A client whose connection speaks XML-RPC's encoding."""
    return ConnectionWrapper(Client(*args, **kwargs), _xml_dumps, _xml_loads)


# ---- pickling connections ------------------------------------------------------------------------


def reduce_connection(conn: Connection) -> tuple[Any, ...]:
    handle = reduction.DupFd(conn._descriptor())
    return rebuild_connection, (handle, conn.readable, conn.writable, conn._passenger())


def rebuild_connection(handle: Any, readable: bool, writable: bool, passenger: object = None) -> Connection:
    """`passenger` has kept the pipe until here, where the descriptor's label tells which one it is of."""
    return Connection(handle.detach(), readable, writable)


reduction.register(Connection, reduce_connection)
