"""The fork server: a process that forks children for a whole family of processes.

It is a new interpreter, started by the first who wants a child of it. It has no threads and few objects, so
its forks are quick, and safe whatever the threads of the program do. It serves the process that started it
and all that descend from that one: they know its address and its key, and each of them holds the writing end
of one pipe, the alive pipe, which the server watches. It ends when all of them are gone, however they ended.

Its socket has an abstract address: no file, and no limit on the length of a path. So anybody may connect,
and is nobody until he has proved to know the key. The server has that from who started it, in a piece of
anonymous memory. A child comes to life in packets, each of which arrives whole or not at all:

    client                                          server
    32 random bytes                             ->
                                                <-  32 random bytes, proof
    proof, request, with descriptors            ->  forks
                                                <-  pid, with the child's sentinel; or -errno
    one byte: begin                             ->  (the child reads it)
                                                <-  the exit code, once the child has ended
    one byte: heard                             ->  reaps the child

Children that are forked ahead come to life in another conversation (_standby_forkserver.py), with the same
greeting.

A proof is the keyed hash of who speaks, both random numbers and the rest of its packet. The server looks at
a request without taking its descriptors, so it accepts none from a stranger. The child begins when it is told
to and not before: if the conversation breaks off, because the server was killed or a signal handler raised,
then nothing has run, and the client may try again.
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import _signal  # type: ignore[import-not-found]  # signal.py is slow to import
import contextlib
import errno
import functools
import os
import select
import socket
import struct
import sys
from _blake2 import blake2b  # hashlib.py loads OpenSSL
from _operator import _compare_digest as compare_digest
from _thread import RLock  # threading.py has to do something in each child

from . import _core, reduction, spawn
from ._at_once import at_once, locked
from .connection import Connection, arbitrary_address, poll_in_turns

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

BACKLOG = 128
DYING_MS = 1000  # at most, from the end of one of the server's descriptors to that of all
KEY_BYTES = NONCE_BYTES = PROOF_BYTES = 32
BEGIN, HEARD = b".", b"!"
ON_ERROR = ("ignore", "warn", "fail")
MAIN = "__main__"

_PROGRAM = f"{__package__}.__main__"
_number = struct.Struct("=i")  # pid, -errno or exit code


class ForkServer:
    """This process's access to the fork server, which the first use starts unless a relative did."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._inherited_fds: list[int] | None = None
        self._preload_modules = [MAIN]
        self._preload_on_error = "ignore"
        self._forget()

    def _forget(self) -> None:
        self._forkserver_address: bytes | None = None
        self._forkserver_authkey = b""
        self._forkserver_alive_fd: int | None = None
        self._forkserver_pid: int | None = None

    def set_forkserver_preload(self, modules_names: Sequence[str], *, on_error: str = "ignore") -> None:
        """Modules that the server imports when it starts. If one can't be imported: `ignore` it, `warn` (the
        server gives an ImportWarning), or `fail` (starting the server raises what the import raised)."""
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {ON_ERROR}, not {on_error!r}")
        self._preload_modules = list(modules_names)
        self._preload_on_error = on_error

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors that this process was started with; None if the server did not fork it."""
        return self._inherited_fds

    @locked("_lock")
    def ensure_running(self) -> None:
        """Start the server, or a new one if it has died."""
        if self._is_alive():
            return
        self._stop()
        try:
            self._start()
        except BaseException:
            if self._forkserver_pid is not None:
                os.kill(self._forkserver_pid, _signal.SIGKILL)  # it may be in a long import
            self._stop()
            raise

    @locked("_lock")
    def _await_end(self) -> None:
        """A conversation broke off, so the server is dying: from now on it is known to be dead."""
        self._is_alive(DYING_MS)

    def connect_to_new_process(self, fds: Sequence[int], child: _core.Child, ticket: Any) -> Line:
        """Have the running server fork an expected child: the line to tell it to begin.

        It finds its arguments by the ticket, blocks the signals that this thread does, as any child, and gets
        the descriptors, the first of which is its parent's sentinel. OSError or EOFError if the server is not
        there any more.
        """
        if len(fds) > reduction.MOST_FDS:
            raise ValueError("too many fds")
        blocked = list(_signal.pthread_sigmask(_signal.SIG_BLOCK, []))
        with self._ask((child.owner, ticket, len(fds), blocked), fds) as sock:
            _receive_birth(sock, child)
            return Line(sock)

    def _open_stock(self, fds: Sequence[int]) -> socket.socket:
        """A lasting connection to the running server, for children that it is to fork ahead. It is given the
        sentinel of this process."""
        sock = self._ask((None, None, len(fds), None), fds)
        if not sock.recv(_number.size):
            sock.close()
            raise EOFError("the fork server ended before it replied")
        return sock

    def _get_address(self) -> bytes | None:
        """The server's, as far as this process knows one."""
        return self._forkserver_address

    def _ask(self, what: tuple[Any, ...], fds: Sequence[int]) -> socket.socket:
        """Send the running server a request, with descriptors: the socket, which has its reply."""
        key, address, alive_fd = self._get_access()
        assert address is not None and alive_fd is not None, "ensure_running() was not called"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.settimeout(None)  # whatever socket.setdefaulttimeout() was told
            sock.connect(address)
            nonces = _greet(sock, key)
            request = _pickle.dumps(what)
            socket.send_fds(sock, [_prove(key, b"client", nonces, request), request], fds)
            _await_reply(sock, alive_fd)
        except BaseException:
            sock.close()
            raise
        return sock

    @locked("_lock")
    def _get_access(self) -> tuple[bytes, bytes | None, int | None]:
        return self._forkserver_authkey, self._forkserver_address, self._forkserver_alive_fd

    def _is_alive(self, milliseconds: int = 0) -> bool:
        if self._forkserver_alive_fd is None:
            return False
        poll = select.poll()
        poll.register(self._forkserver_alive_fd, 0)  # a pipe whose reader is gone is in error
        return not poll.poll(milliseconds)

    def _start(self) -> None:
        self._forkserver_authkey = os.urandom(KEY_BYTES)
        ends: list[int] = []
        closing = map(os.close, ends)
        try:
            self._launch(ends)
        finally:
            list(closing)

    def _launch(self, ends: list[int]) -> None:
        """Start it, with pipes whose ends are put where the caller closes them."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            listener.bind(arbitrary_address("AF_UNIX"))
            listener.listen(BACKLOG)
            self._forkserver_address = listener.getsockname()
            at_once(ends.extend, os.pipe)
            alive, self._forkserver_alive_fd = ends
            del ends[1]
            settings = stack.enter_context(spawn.in_memory(self._settings()))
            at_once(ends.extend, os.pipe)
            _, failure, report = ends
            passed = (listener.fileno(), alive, _core.arena_fd(), settings.fileno(), report)
            # SIGINT is blocked until the server has preloaded, and ignores it.
            code = f"from {__package__}._fork_server import main; main{passed}"
            spawn.execute(code, passed, functools.partial(setattr, self, "_forkserver_pid"))
            at_once(os.close, ends.pop)
            if self._preload_on_error == "fail":
                _raise_reported(failure)

    def _settings(self) -> tuple[Any, ...]:
        data = spawn.get_shared_preparation()
        used = [name for name in list(sys.modules) if name.startswith(f"{__package__}.") and name != _PROGRAM]
        preload = self._preload_modules, self._preload_on_error
        return self._forkserver_authkey, used, *preload, data

    @locked("_lock")
    def _stop(self) -> None:
        """Let go of the server and, if this process started it, wait for its end, which comes when all
        others have let go, too."""
        if self._forkserver_alive_fd is not None:
            with contextlib.suppress(OSError):  # a daemon to be has closed all its descriptors
                os.close(self._forkserver_alive_fd)
        if self._forkserver_pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._forkserver_pid, 0)
        self._forget()

    def _get_state(self) -> dict[str, Any]:
        """What a child that is being spawned needs to know."""
        fd = self._forkserver_alive_fd
        return {
            "address": self._forkserver_address,
            "authkey": self._forkserver_authkey,
            "alive_fd": None if fd is None else reduction.DupFd(fd),
            "preload": (self._preload_modules, self._preload_on_error),
        }

    def _set_state(self, state: dict[str, Any]) -> None:
        """In the child: what its parent's _get_state() gave."""
        fd = state["alive_fd"]
        self._forkserver_address = state["address"]
        self._forkserver_authkey = state["authkey"]
        self._forkserver_alive_fd = None if fd is None else fd.detach()
        self._preload_modules, self._preload_on_error = state["preload"]

    def _after_fork_in_child(self) -> None:
        self._lock = RLock()


class Line:
    """The connection by which a child came to life: it is told to begin, the server tells its exit code."""

    def __init__(self, sock: socket.socket) -> None:
        self._connection: Connection = at_once(Connection, socket.SocketType.detach, sock)

    def begin(self) -> None:
        """Tell the child to begin. If it is dead already its exit code will say so."""
        with contextlib.suppress(OSError):
            os.write(self._connection.fileno(), BEGIN)

    def exitcode(self, timeout: float | None) -> int | None:
        """What the server says, None if it says nothing for `timeout` seconds. EOFError if it is gone."""
        if not self._connection.poll(timeout):
            return None
        with socket.fromfd(self._connection.fileno(), socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            try:
                packet = _look(sock)
            except ConnectionResetError:  # that nobody read what we wrote is told first
                packet = _look(sock)
        if not packet:
            raise EOFError
        code: int = _number.unpack(packet)[0]
        return code

    def heard(self) -> None:
        """The exit code has arrived: the server may reap the child."""
        with contextlib.suppress(OSError):  # it has done so already
            os.write(self._connection.fileno(), HEARD)

    def close(self) -> None:
        self._connection.close()


class DupFd:
    """A descriptor in the arguments of a child."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """In the child: the descriptor."""
        assert _forkserver._inherited_fds is not None
        return _forkserver._inherited_fds[self._index]


def _look(sock: socket.socket) -> bytes:
    """The next packet, which stays for other threads, and for processes that have a copy of the socket."""
    return sock.recv(_number.size, socket.MSG_PEEK)


def _greet(sock: socket.socket, key: bytes) -> bytes:
    """Begin the conversation: the random numbers of both, once the server has shown that it knows the key."""
    ours = os.urandom(NONCE_BYTES)
    sock.send(ours)
    answer = sock.recv(NONCE_BYTES + PROOF_BYTES)
    if not answer:
        raise EOFError("the fork server ended before it answered")
    nonces, proof = ours + answer[:NONCE_BYTES], answer[NONCE_BYTES:]
    if not compare_digest(proof, _prove(key, b"server", nonces)):
        raise _core.AuthenticationError("another process answers at the fork server's address")
    return nonces


def _await_reply(sock: socket.socket, alive_fd: int) -> None:
    """Until the server tells something or is gone. Then the child may have its end of the socket."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(alive_fd, 0)
    poll_in_turns(poll)
    if sock.fileno() not in dict(poll.poll(0)):  # asked again: it may have told and gone at once
        raise EOFError("the fork server ended before it replied")


def _receive_birth(sock: socket.socket, child: _core.Child) -> None:
    packets: list[tuple[Any, ...]] = []
    try:
        pid = receive_pid(sock, 1, packets)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        child.born(pid, reduction.unpack(packets[0])[1][0])
    except BaseException:
        for fd in reduction.unpack(packets[0])[1] if packets and not child.pid else ():
            os.close(fd)
        raise


def receive_pid(sock: socket.socket, count: int, packets: list[tuple[Any, ...]], flags: int = 0) -> int:
    """The pid of a process that the server has forked, or -errno. The packet, with `count` descriptors of the
    process, is put where the caller closes them."""
    room = reduction.room_for(count)
    at_once(packets.append, sock.recvmsg, _number.size, room, socket.MSG_CMSG_CLOEXEC | flags)
    reply, fds = reduction.unpack(packets[0])
    if not reply:
        raise EOFError("the fork server did not fork")
    pid: int = _number.unpack(reply)[0]
    if pid > 0 and len(fds) != count:
        raise OSError(errno.EMFILE, "no descriptor is left for the child's sentinel")
    return pid


def pack_number(number: int) -> bytes:
    """As it is told in either direction."""
    return _number.pack(number)


def _prove(key: bytes, *parts: bytes) -> bytes:
    return blake2b(b"".join(parts), key=key, digest_size=PROOF_BYTES).digest()


def _raise_reported(fd: int) -> None:
    with open(fd, "rb", closefd=False) as file:
        report = file.read()
    if report:
        raise _pickle.loads(report)


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
open_stock = _forkserver._open_stock
get_address = _forkserver._get_address
await_end = _forkserver._await_end
get_state = _forkserver._get_state
set_state = _forkserver._set_state

os.register_at_fork(after_in_child=_forkserver._after_fork_in_child)
