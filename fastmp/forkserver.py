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
                                                <-  the exit code, once the child is reaped

A proof is the keyed hash of who speaks, both random numbers and the rest of its packet. The server looks at
a request without taking its descriptors, so it accepts none from a stranger. The child begins when it is told
to and not before: if the conversation breaks off, because the server was killed or a signal handler raised,
then nothing has run, and the client may try again.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import gc
import hmac
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NoReturn

from . import _core, process, reduction, spawn
from ._launch.fork import live
from .connection import Connection, _same_user, arbitrary_address

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]

MOST_FDS = 253  # in one packet
BACKLOG = MOST_GUESTS = 128
LONGEST_REQUEST = 512
RETRY_SECONDS = 0.05
DYING_MS = 1000  # at most, from the end of one of the server's descriptors to that of all
KEY_BYTES = NONCE_BYTES = PROOF_BYTES = 32
BEGIN = b"."
ON_ERROR = ("ignore", "warn", "fail")
MAIN = "__main__"
MAIN_KEYS = "init_main_"
PREPARATION = ("sys_", "dir", "orig_dir", "start_method", "installed", MAIN_KEYS)  # what all children share

_PROGRAM = f"{__package__}.__main__"
_number = struct.Struct("=i")  # pid, -errno or exit code


# ---- the client's side ------------------------------------------------------------------------------


class ForkServer:
    """This process's access to the fork server, which the first use starts unless a relative did."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
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
                    os.kill(self._forkserver_pid, signal.SIGKILL)  # it may be in a long import
                self._stop()
                raise

    def _await_end(self) -> None:
        """A conversation broke off, so the server is dying: from now on it is known to be dead."""
        with self._lock:
            self._is_alive(DYING_MS)

    def connect_to_new_process(
        self, fds: Sequence[int], owner: int = 0, ticket: Any = None
    ) -> tuple[int, int, Line]:
        """Have the running server fork a child: its pid, its sentinel, and the line to tell it to begin.

        It takes the place `owner` in the arena, finds its arguments by the ticket, blocks the signals that
        this thread does, as any child, and gets the descriptors, the first of which is its parent's sentinel.
        OSError or EOFError if the server is not there any more.
        """
        if len(fds) > MOST_FDS:
            raise ValueError("too many fds")
        with self._lock:
            key, address, alive_fd = (
                self._forkserver_authkey,
                self._forkserver_address,
                self._forkserver_alive_fd,
            )
        assert address is not None and alive_fd is not None, "ensure_running() was not called"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(None)  # whatever socket.setdefaulttimeout() was told
            sock.connect(address)
            nonces = _greet(sock, key)
            blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
            request = pickle.dumps((owner, ticket, len(fds), blocked))
            socket.send_fds(sock, [_prove(key, b"client", nonces, request), request], fds)
            _await_birth(sock, alive_fd)
            pid, sentinel = _receive_birth(sock)
            return pid, sentinel, Line(sock.detach())

    def _is_alive(self, milliseconds: int = 0) -> bool:
        if self._forkserver_alive_fd is None:
            return False
        poll = select.poll()
        poll.register(self._forkserver_alive_fd, 0)  # a pipe whose reader is gone is in error
        return not poll.poll(milliseconds)

    def _start(self) -> None:
        self._forkserver_authkey = os.urandom(KEY_BYTES)
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            listener.bind(arbitrary_address("AF_UNIX"))
            listener.listen(BACKLOG)
            self._forkserver_address = listener.getsockname()
            alive, self._forkserver_alive_fd = os.pipe()
            stack.callback(os.close, alive)
            settings = stack.enter_context(_in_memory(self._settings()))
            failure, report = (stack.enter_context(file) for file in _pipe())
            passed = (listener.fileno(), alive, _core.arena_fd(), settings.fileno(), report.fileno())
            self._forkserver_pid = _execute(passed)
            report.close()
            if self._preload_on_error == "fail":
                _raise_reported(failure.read())

    def _settings(self) -> tuple[Any, ...]:
        every = spawn.get_preparation_data("")
        data = {key: every[key] for key in every if key.startswith(PREPARATION)}
        used = [name for name in list(sys.modules) if name.startswith(f"{__package__}.") and name != _PROGRAM]
        return self._forkserver_authkey, used, self._preload_modules, self._preload_on_error, data

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
        }

    def _set_state(self, state: dict[str, Any]) -> None:
        """In the child: what its parent's _get_state() gave."""
        fd = state["alive_fd"]
        self._forkserver_address = state["address"]
        self._forkserver_authkey = state["authkey"]
        self._forkserver_alive_fd = None if fd is None else fd.detach()
        self._preload_modules, self._preload_on_error = state["preload"]

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


class Line:
    """The connection by which a child came to life: it is told to begin, the server tells its exit code."""

    def __init__(self, fd: int) -> None:
        self._connection = Connection(fd)

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
    if not hmac.compare_digest(proof, _prove(key, b"server", nonces)):
        raise _core.AuthenticationError("another process answers at the fork server's address")
    return nonces


def _await_birth(sock: socket.socket, alive_fd: int) -> None:
    """Until the server tells something or is gone. Then the child may have its end of the socket."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(alive_fd, 0)
    poll.poll()
    if sock.fileno() not in dict(poll.poll(0)):  # asked again: it may have told and gone at once
        raise EOFError("the fork server ended before it told of the child")


def _receive_birth(sock: socket.socket) -> tuple[int, int]:
    reply, sentinels = reduction.receive(sock, _number.size, 1)
    if not reply:
        raise EOFError("the fork server did not fork")
    (pid,) = _number.unpack(reply)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    if not sentinels:
        raise OSError("no descriptor is left for the child's sentinel")
    return pid, sentinels[0]


def _prove(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def _in_memory(obj: object) -> BinaryIO:
    """A file in memory with the pickle of an object. Unlike a pipe it takes any size at once."""
    file = open(os.memfd_create("fastmp-forkserver"), "w+b")  # noqa: SIM115
    pickle.dump(obj, file)
    file.seek(0)
    return file


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    reader, writer = os.pipe()
    return open(reader, "rb"), open(writer, "wb")


def _execute(fds: Sequence[int]) -> int:
    """Start the server, which inherits these descriptors; its pid."""
    # Blocked until the server has preloaded and ignores it; what it preloads may set a handler for children.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return spawn.execute(f"from {__name__} import main; main{tuple(fds)}", fds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _raise_reported(report: bytes) -> None:
    if report:
        raise pickle.loads(report)


# ---- the server's process ---------------------------------------------------------------------------


def main(listener_fd: int, alive_fd: int, arena_fd: int, settings_fd: int, report_fd: int) -> NoReturn:
    """Preload, then serve until no process of the family is left."""
    for fd in (listener_fd, alive_fd, arena_fd, settings_fd, report_fd):
        os.set_inheritable(fd, False)
    _core.attach(arena_fd, 0)
    _empty_stdin()
    with open(settings_fd, "rb") as file:
        key, used, modules, on_error, data = pickle.load(file)
    for name in used:  # of our own modules; children will use what their parent uses
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with open(report_fd, "wb") as report:
        _preload(modules, on_error, data, report)
    process._flush_std_streams()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = _Server(listener_fd, alive_fd, key, limits)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))  # each child takes two of them
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
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
    spawn.prepare(data)
    this = process.current_process()
    for name in modules:
        this._inheriting = True  # type: ignore[attr-defined]  # a process that a module starts is an error
        try:
            if name == MAIN:
                spawn.prepare(main)
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
    e.add_note(f"\nWhile the fork server preloaded modules:\n{traceback.format_exc()}")
    try:
        pickled = pickle.dumps(e)
        pickle.loads(pickled)
    except Exception:
        return pickle.dumps(RuntimeError(f"{e!r}{e.__notes__[-1]}"))
    return pickled


class _Server:
    """Waits for whatever is next: a client, what a client says, the end of a child, the end of the family."""

    def __init__(self, listener_fd: int, alive_fd: int, key: bytes, limits: tuple[int, int]) -> None:
        self._listener = socket.socket(fileno=listener_fd)
        self._listener.setblocking(False)
        self._key = key
        self._limits = limits  # of a child's descriptors
        self._serving = True
        self._on_sigint = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._epoll = select.epoll()
        self._actions: dict[int, Callable[[], object]] = {}  # what to do when a descriptor is readable
        self._guests: dict[int, socket.socket] = {}  # clients that have not proved to know the key
        self._lines: set[int] = set()  # to the clients of children that live
        self._watch(alive_fd, self._end)
        self._watch(listener_fd, self._accept)

    def serve(self) -> None:
        """Until the end of the family."""
        while self._serving:
            for fd, _ in self._epoll.poll(maxevents=1):
                self._actions[fd]()

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
        except (OSError, _core.AuthenticationError):
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
        if not hmac.compare_digest(proof, _prove(self._key, b"client", nonces, request)):
            raise _core.AuthenticationError
        owner, ticket, count, blocked = pickle.loads(request)
        _, fds = reduction.receive(sock, LONGEST_REQUEST, count)
        try:
            if len(fds) != count:
                raise OSError(errno.EMFILE, "no descriptors are left")
            self._beget(sock, owner, ticket, fds, blocked)
        except (OSError, MemoryError) as e:
            sock.send(_number.pack(-(getattr(e, "errno", None) or errno.ENOMEM)))
            self._dismiss(sock)
        finally:
            for fd in fds:
                os.close(fd)

    # ---- children

    def _beget(
        self, sock: socket.socket, owner: int, ticket: Any, fds: Sequence[int], blocked: Iterable[int]
    ) -> None:
        child = _fork(owner, blocked)
        if child is None:
            live(functools.partial(self._live, sock.fileno(), ticket, fds))
        with contextlib.suppress(OSError):  # nobody is there any more: the child sees that as well
            socket.send_fds(sock, [_number.pack(child.pid)], [child.sentinel])
        del self._guests[sock.fileno()]
        self._unwatch(sock.fileno())
        line = sock.detach()
        self._lines.add(line)
        self._watch(child.sentinel, functools.partial(self._reap, child, line))

    def _reap(self, child: _core.Child, line: int) -> None:
        code = child.poll()
        if code is None:
            return
        with contextlib.suppress(OSError):  # the client may be gone
            os.write(line, _number.pack(code))
        self._lines.remove(line)
        os.close(line)
        self._unwatch(child.sentinel)
        child.close()

    def _live(self, line: int, ticket: Any, fds: Sequence[int]) -> int:
        """The child, until its exit code is known."""
        atexit._clear()  # as in a forked child, not as in a spawned one
        signal.signal(signal.SIGINT, self._on_sigint)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        for fd in (self._epoll.fileno(), *(self._actions.keys() - {line}), *self._lines):
            os.close(fd)
        begin = os.read(line, len(BEGIN))
        os.close(line)
        if not begin:
            return 1
        _forkserver._inherited_fds = list(fds[1:])
        try:
            process_obj = spawn._main(_core.Block.attach(ticket))
        except SystemExit as e:
            return process._exit_status(e.code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
        return process_obj._bootstrap(fds[0])


def _fork(owner: int, blocked: Iterable[int]) -> _core.Child | None:
    """Fork a child with these signals blocked."""
    ours = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        child = _core.fork(owner)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, ours)
        raise
    if child is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ours)
    return child


_forkserver = ForkServer()
connect_to_new_process = _forkserver.connect_to_new_process
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
set_forkserver_preload = _forkserver.set_forkserver_preload
await_end = _forkserver._await_end
get_state = _forkserver._get_state
set_state = _forkserver._set_state

os.register_at_fork(after_in_child=_forkserver._after_fork_in_child)
