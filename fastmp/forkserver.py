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

Instead of a child a client may ask that so many be forked ahead, with nothing to do (set_standby). The next
requests are passed on to them, with the socket of their client, instead of being forked for; the rest of the
conversation is the same. They have rehearsed their life (_rehearse), so the order finds them with pages of
their own. Others are forked in their place when no more than half are left, or the server has
had nothing to do for a moment. Nobody but the server knows of those who wait, and they end with it.

A proof is the keyed hash of who speaks, both random numbers and the rest of its packet. The server looks at
a request without taking its descriptors, so it accepts none from a stranger. The child begins when it is told
to and not before: if the conversation breaks off, because the server was killed or a signal handler raised,
then nothing has run, and the client may try again.
"""

from __future__ import annotations

import _pickle  # pickle.py is slow to import
import _signal  # type: ignore[import-not-found]  # signal.py makes enums, in copies of a dozen pages each time
import atexit
import contextlib
import errno
import functools
import gc
import importlib
import os
import resource
import select
import socket
import struct
import sys
import time
import warnings
from _blake2 import blake2b  # hashlib.py loads OpenSSL
from _operator import _compare_digest as compare_digest
from _thread import RLock  # threading.py has to do something in each child

from . import _core, _newborn, context, process, reduction, spawn
from ._at_once import at_once
from ._launch import fork
from ._launch.fork import live
from .connection import Connection, _same_user, arbitrary_address

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Any, BinaryIO, NoReturn

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

MOST_FDS = 253  # in one packet
BACKLOG = MOST_GUESTS = 128
LONGEST_REQUEST = 512
RETRY_SECONDS = 0.05
QUIET_SECONDS = 0.02  # without an event, after which replacements for children forked ahead are made
DYING_MS = 1000  # at most, from the end of one of the server's descriptors to that of all
KEY_BYTES = NONCE_BYTES = PROOF_BYTES = 32
BEGIN, HEARD = b".", b"!"
ON_ERROR = ("ignore", "warn", "fail")
MAIN = "__main__"
MAIN_KEYS = "init_main_"

_PROGRAM = f"{__package__}.__main__"
_number = struct.Struct("=i")  # pid, -errno or exit code


# ---- the client's side ------------------------------------------------------------------------------


class ForkServer:
    """This process's access to the fork server, which the first use starts unless a relative did."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._inherited_fds: list[int] | None = None
        self._preload_modules = [MAIN]
        self._preload_on_error = "ignore"
        self._standby = 0
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

    def ensure_running(self) -> None:
        """Start the server, or a new one if it has died."""
        with self._lock:
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

    def _await_end(self) -> None:
        """A conversation broke off, so the server is dying: from now on it is known to be dead."""
        with self._lock:
            self._is_alive(DYING_MS)

    def connect_to_new_process(self, fds: Sequence[int], child: _core.Child, ticket: Any) -> Line:
        """Have the running server fork an expected child: the line to tell it to begin.

        It finds its arguments by the ticket, blocks the signals that this thread does, as any child, and gets
        the descriptors, the first of which is its parent's sentinel. OSError or EOFError if the server is not
        there any more.
        """
        if len(fds) > MOST_FDS:
            raise ValueError("too many fds")
        blocked = list(_signal.pthread_sigmask(_signal.SIG_BLOCK, []))
        with self._ask((child.owner, ticket, len(fds), blocked), fds) as sock:
            _receive_birth(sock, child)
            return Line(sock)

    def set_standby(self, count: int, wait: bool) -> None:
        """Have the server keep so many children forked ahead, and servers started later as well. With `wait`,
        return when they are there."""
        with self._lock:
            self._standby = count
            if not count and not self._is_alive():
                return
            self.ensure_running()
        with (
            contextlib.suppress(ConnectionError, EOFError),  # it has just died; the next one knows
            self._ask((None, count, 0, wait), ()) as sock,
        ):
            sock.recv(_number.size)

    def _ask(self, what: tuple[Any, ...], fds: Sequence[int]) -> socket.socket:
        """Send the running server a request, with descriptors: the socket, which has its reply."""
        with self._lock:
            key, address, alive_fd = (
                self._forkserver_authkey,
                self._forkserver_address,
                self._forkserver_alive_fd,
            )
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
            code = f"from {__name__} import main; main{passed}"
            spawn.execute(code, passed, functools.partial(setattr, self, "_forkserver_pid"))
            at_once(os.close, ends.pop)
            if self._preload_on_error == "fail":
                _raise_reported(failure)

    def _settings(self) -> tuple[Any, ...]:
        data = spawn.get_shared_preparation()
        used = [name for name in list(sys.modules) if name.startswith(f"{__package__}.") and name != _PROGRAM]
        preload = self._preload_modules, self._preload_on_error
        return self._forkserver_authkey, used, *preload, self._standby, data

    def _stop(self) -> None:
        """Let go of the server and, if this process started it, wait for its end, which comes when all
        others have let go, too."""
        with self._lock:
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
            "standby": self._standby,
        }

    def _set_state(self, state: dict[str, Any]) -> None:
        """In the child: what its parent's _get_state() gave."""
        fd = state["alive_fd"]
        self._forkserver_address = state["address"]
        self._forkserver_authkey = state["authkey"]
        self._forkserver_alive_fd = None if fd is None else fd.detach()
        self._preload_modules, self._preload_on_error = state["preload"]
        self._standby = state["standby"]

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
    poll.poll()
    if sock.fileno() not in dict(poll.poll(0)):  # asked again: it may have told and gone at once
        raise EOFError("the fork server ended before it replied")


def _receive_birth(sock: socket.socket, child: _core.Child) -> None:
    packets: list[tuple[Any, ...]] = []
    try:
        room = reduction.room_for(1)
        at_once(packets.append, sock.recvmsg, _number.size, room, socket.MSG_CMSG_CLOEXEC)
        reply, sentinels = reduction.unpack(packets[0])
        if not reply:
            raise EOFError("the fork server did not fork")
        (pid,) = _number.unpack(reply)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        if not sentinels:
            raise OSError("no descriptor is left for the child's sentinel")
        child.born(pid, sentinels[0])
    except BaseException:
        for fd in reduction.unpack(packets[0])[1] if packets and not child.pid else ():
            os.close(fd)
        raise


def _prove(key: bytes, *parts: bytes) -> bytes:
    return blake2b(b"".join(parts), key=key, digest_size=PROOF_BYTES).digest()


def _raise_reported(fd: int) -> None:
    with open(fd, "rb", closefd=False) as file:
        report = file.read()
    if report:
        raise _pickle.loads(report)


# ---- the server's process ---------------------------------------------------------------------------


def main(listener_fd: int, alive_fd: int, arena_fd: int, settings_fd: int, report_fd: int) -> NoReturn:
    """Preload, then serve until no process of the family is left."""
    for fd in (listener_fd, alive_fd, arena_fd, settings_fd, report_fd):
        os.set_inheritable(fd, False)
    _core.attach(arena_fd, 0)
    _empty_stdin()
    with open(settings_fd, "rb") as file:
        key, used, modules, on_error, standby, data = _pickle.load(file)
    for name in used:  # of our own modules; children will use what their parent uses
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with open(report_fd, "wb") as report:
        _preload(modules, on_error, data, report)
    process._flush_std_streams()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = _Server(listener_fd, alive_fd, key, limits, standby)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))  # each child takes three of them
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])
    with contextlib.suppress(Exception):  # what fails here fails again where it is told
        _rehearse()
    gc.freeze()
    try:
        server.serve()
    finally:
        process._flush_std_streams()
        _core.leave()
        os._exit(0)  # what preloaded modules want to do at exit is for the children


def _empty_stdin() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)


def _preload(modules: Iterable[str], on_error: str, data: dict[str, Any], report: BinaryIO) -> None:
    main = {key: data.pop(key) for key in list(data) if key.startswith(MAIN_KEYS)}
    _newborn.prepare(data)
    this = process.current_process()
    for name in modules:
        this._inheriting = True  # type: ignore[attr-defined]  # a process that a module starts is an error
        try:
            if name == MAIN:
                _newborn.prepare(main)
            else:
                importlib.import_module(name)
        except (Exception, SystemExit) as e:
            if on_error == "fail":
                report.write(_pickled(e))
                sys.exit(1)  # the client raises it
            if on_error == "warn":
                warnings.warn(f"Failed to preload module {name!r}: {e!r}", ImportWarning, stacklevel=2)
        finally:
            del this._inheriting  # type: ignore[attr-defined]


def _pickled(e: BaseException) -> bytes:
    """The exception for another process, with its traceback as a note."""
    traceback = importlib.import_module("traceback").format_exc()  # slow to import
    e.add_note(f"\nWhile the fork server preloaded modules:\n{traceback}")
    try:
        pickled = _pickle.dumps(e)
        _pickle.loads(pickled)
    except Exception:
        return _pickle.dumps(RuntimeError(f"{e!r}{e.__notes__[-1]}"))
    return pickled


def _rehearse() -> None:
    """What each child will do is done here until the interpreter has adapted that code and filled its caches:
    both lie in pages that children then need no copies of."""
    process.prepare_for_children()
    fork.rehearse()
    example = _pack_example()
    for _ in range(fork.TIMES):
        _newborn._main(example)


def _pack_example() -> _core.Block:
    """What a child is told that does nothing."""
    return spawn.pack_example(context.ForkServerProcess(target=int))


class _Server:
    """Waits for whatever is next: a client, what a client says, the end of a child, the end of the family."""

    def __init__(
        self, listener_fd: int, alive_fd: int, key: bytes, limits: tuple[int, int], standby: int
    ) -> None:
        self._listener = socket.socket(fileno=listener_fd)
        self._listener.setblocking(False)
        self._key = key
        self._limits = limits  # of a child's descriptors
        self._serving = True
        self._on_sigint = _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        self._epoll = select.epoll()
        self._actions: dict[int, Callable[[], object]] = {}  # what to do when a descriptor is readable
        self._guests: dict[int, socket.socket] = {}  # clients that have not proved to know the key
        self._lines: set[int] = set()  # to the clients of children, and the clients' sentinels
        self._standby = 0  # how many are to be forked ahead
        self._ahead: dict[int, tuple[_core.Child, socket.socket]] = {}  # those there are, by their sentinels
        self._filling = False  # now, between requests; else when there were none for a while
        self._example: _core.Block | None = None  # of what such a child is told
        self._askers: list[socket.socket] = []  # clients who wait until all are there
        self._keep_ahead(standby)
        self._watch(alive_fd, self._end)
        self._watch(listener_fd, self._accept)

    def serve(self) -> None:
        """Until the end of the family."""
        while self._serving:
            events = self._epoll.poll(self._patience(), maxevents=1)
            for fd, _ in events:
                self._actions[fd]()
            if not events:
                self._replace()

    def _watch(self, fd: int, action: Callable[[], object]) -> None:
        self._actions[fd] = action
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._actions[fd]
        self._epoll.unregister(fd)

    def _end(self) -> None:
        self._serving = False

    # ---- clients

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # perhaps no descriptor is left, until a child ends
            time.sleep(RETRY_SECONDS)
            return
        sock.setblocking(True)  # whatever the default is that a preloaded module has set
        if not _same_user(sock):
            sock.close()
            return
        if len(self._guests) == MOST_GUESTS:
            self._dismiss(next(iter(self._guests.values())))
        self._guests[sock.fileno()] = sock
        self._watch(sock.fileno(), functools.partial(self._hear, sock, self._answer))

    def _hear(self, sock: socket.socket, listen: Callable[..., None], *args: Any) -> None:
        try:
            listen(sock, *args)
        except Exception:  # a stranger, one who has gone, or a request that is none: others are to be served
            self._dismiss(sock)

    def _dismiss(self, sock: socket.socket) -> None:
        del self._guests[sock.fileno()]
        self._unwatch(sock.fileno())
        sock.close()

    def _answer(self, sock: socket.socket) -> None:
        theirs = sock.recv(NONCE_BYTES, socket.MSG_DONTWAIT)
        if len(theirs) != NONCE_BYTES:
            raise _core.AuthenticationError
        ours = os.urandom(NONCE_BYTES)
        nonces = theirs + ours
        sock.send(ours + _prove(self._key, b"server", nonces), socket.MSG_DONTWAIT)
        self._actions[sock.fileno()] = functools.partial(self._hear, sock, self._fulfil, nonces)

    def _fulfil(self, sock: socket.socket, nonces: bytes) -> None:
        packet = sock.recv(LONGEST_REQUEST, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        proof, request = packet[:PROOF_BYTES], packet[PROOF_BYTES:]
        if not compare_digest(proof, _prove(self._key, b"client", nonces, request)):
            raise _core.AuthenticationError
        owner, ticket, count, last = _pickle.loads(request)
        _, fds = reduction.receive(sock, LONGEST_REQUEST, count)
        try:
            if len(fds) != count:
                raise OSError(errno.EMFILE, "no descriptors are left")
            if owner is None:
                self._set_standby(sock, ticket, last)
            else:
                self._beget(sock, owner, ticket, fds, last)
        except (OSError, MemoryError) as e:
            sock.send(_number.pack(-(getattr(e, "errno", None) or errno.ENOMEM)))
            self._dismiss(sock)
        finally:
            for fd in fds:
                os.close(fd)

    # ---- children forked ahead

    def _patience(self) -> float | None:
        """How long to wait for the next event before a child is forked ahead."""
        if len(self._ahead) >= self._standby:
            return None
        return 0 if self._filling else QUIET_SECONDS

    def _set_standby(self, sock: socket.socket, count: int, wait: bool) -> None:
        self._keep_ahead(count)
        del self._guests[sock.fileno()]
        self._unwatch(sock.fileno())
        while len(self._ahead) > count:
            self._ahead.popitem()[1][1].close()  # it will end, and _lose() sees it
        self._askers.append(sock)
        if not wait or len(self._ahead) == count:
            self._answer_askers()

    def _keep_ahead(self, count: int) -> None:
        """From now on, so many."""
        self._standby, self._filling = count, bool(count)
        self._example = _pack_example() if count else None

    def _answer_askers(self) -> None:
        for sock in self._askers:
            with sock, contextlib.suppress(OSError):
                sock.send(_number.pack(0))
        self._askers.clear()

    def _replace(self) -> None:
        """Fork one ahead, or if that is not possible now, later."""
        try:
            self._fork_ahead()
        except (OSError, MemoryError):
            self._filling = False
            self._answer_askers()

    def _fork_ahead(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            child = _fork(0, ())
        except BaseException:
            ours.close()
            theirs.close()
            raise
        if child is None:
            ours.close()
            live(functools.partial(self._stand_by, theirs))
        theirs.close()
        self._ahead[child.sentinel] = child, ours
        self._watch(child.sentinel, functools.partial(self._lose, child))
        if len(self._ahead) == self._standby:
            self._filling = False
            self._answer_askers()

    def _take_ahead(self) -> tuple[_core.Child, socket.socket] | None:
        """A child forked ahead that lives, the oldest; None if there is none."""
        while self._ahead:
            child, line = self._ahead.pop(next(iter(self._ahead)))
            self._unwatch(child.sentinel)
            self._filling = self._filling or len(self._ahead) <= self._standby // 2
            if child.poll() is None:
                return child, line
            line.close()
            child.close()
        return None

    def _lose(self, child: _core.Child) -> None:
        """A child that waited has ended."""
        if child.poll() is None:
            return
        if child.sentinel in self._ahead:
            self._ahead.pop(child.sentinel)[1].close()
        self._unwatch(child.sentinel)
        child.close()

    def _stand_by(self, line: socket.socket) -> int:
        """The child forked ahead, until its exit code is known."""
        self._shed(line.fileno())
        self._rehearse()
        with line:
            order, fds = reduction.receive(line, LONGEST_REQUEST, MOST_FDS)
        if not order:
            return 0
        owner, ticket, blocked = _pickle.loads(order)
        _core.become(owner)
        return self._begin(fds[0], ticket, fds[1:], blocked)

    # ---- children

    def _beget(
        self, sock: socket.socket, owner: int, ticket: Any, fds: list[int], blocked: Collection[int]
    ) -> None:
        child = self._order_ahead(sock, owner, ticket, fds, blocked)
        if child is None:
            child = _fork(owner, blocked)
        if child is None:
            live(functools.partial(self._live, sock.fileno(), ticket, fds, blocked))
        with contextlib.suppress(OSError):  # nobody is there any more: the child sees that as well
            socket.send_fds(sock, [_number.pack(child.pid)], [child.sentinel])
        del self._guests[sock.fileno()]
        self._unwatch(sock.fileno())
        line, client = sock.detach(), fds.pop(0)
        self._lines |= {line, client}
        self._watch(child.sentinel, functools.partial(self._tell_end, child, line, client))

    def _order_ahead(
        self, sock: socket.socket, owner: int, ticket: Any, fds: Sequence[int], blocked: Any
    ) -> _core.Child | None:
        """A child forked ahead, which is told what to be; None if there is none that can be told."""
        while len(fds) < MOST_FDS and (ahead := self._take_ahead()):
            child, line = ahead
            with line, contextlib.suppress(ConnectionError):  # it has just been killed
                socket.send_fds(line, [_pickle.dumps((owner, ticket, blocked))], [sock.fileno(), *fds])
                return child
        return None

    def _tell_end(self, child: _core.Child, line: int, client: int) -> None:
        """It has ended. Until the client has heard so, or is gone, its pid is no other process's."""
        code = _outcome(child)
        if code is None:
            return
        with contextlib.suppress(OSError):  # the client may be gone
            os.write(line, _number.pack(code))
        self._unwatch(child.sentinel)
        self._watch(line, functools.partial(self._hear_of_end, child, line, client))
        self._watch(client, functools.partial(self._reap, child, line, client))

    def _hear_of_end(self, child: _core.Child, line: int, client: int) -> None:
        with contextlib.suppress(OSError):
            if os.read(line, len(BEGIN)) == BEGIN:  # the child was killed before it read that
                return
        self._reap(child, line, client)

    def _reap(self, child: _core.Child, line: int, client: int) -> None:
        for fd in (line, client):
            self._unwatch(fd)
            os.close(fd)
        self._lines -= {line, client}
        child.poll()
        child.close()

    def _live(self, line: int, ticket: Any, fds: Sequence[int], blocked: Collection[int]) -> int:
        """The child, until its exit code is known."""
        self._shed(line)
        return self._begin(line, ticket, fds, blocked)

    def _shed(self, kept: int) -> None:
        """In a child: let go of what is the server's."""
        atexit._clear()  # as in a forked child, not as in a spawned one
        ahead = {line.fileno() for _, line in self._ahead.values()}
        for fd in {self._epoll.fileno(), *self._actions, *self._lines, *ahead} - {kept}:
            os.close(fd)

    def _rehearse(self) -> None:
        """In a child forked ahead: pages that a child writes to are copied before anybody waits for it."""
        assert self._example is not None
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])  # and ignore it, as the server does
        with contextlib.suppress(Exception):  # what fails here fails again where it is told
            process.rehearse(_newborn._main(self._example))
        self._example = None

    def _begin(self, line: int, ticket: Any, fds: Sequence[int], blocked: Collection[int]) -> int:
        """In a child that knows what to be, and waits to be told to begin."""
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        _signal.signal(_signal.SIGINT, self._on_sigint)
        _newborn.hold_interrupts(blocked)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        begin = os.read(line, len(BEGIN))
        os.close(line)
        if not begin:
            return 1
        _forkserver._inherited_fds = list(fds[1:])
        try:
            process_obj = _newborn._main(_core.Block.attach(ticket))
        except SystemExit as e:
            return process._exit_status(e.code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
        return process_obj._bootstrap(fds[0])


def _outcome(child: _core.Child) -> int | None:
    """The exit code of a child that has ended, which is not reaped for that; None while it runs."""
    try:
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # a preloaded module has reaped it
        return child.poll()
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _fork(owner: int, blocked: Iterable[int]) -> _core.Child | None:
    """Fork a child with these signals blocked, and SIGINT, which is not to be lost while it ignores that."""
    ours = _signal.pthread_sigmask(_signal.SIG_SETMASK, {*blocked, _signal.SIGINT})
    try:
        child = _core.fork(owner)
    except BaseException:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ours)
        raise
    if child is not None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ours)
    return child


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
set_standby = _forkserver.set_standby
await_end = _forkserver._await_end
get_state = _forkserver._get_state
set_state = _forkserver._set_state

os.register_at_fork(after_in_child=_forkserver._after_fork_in_child)
