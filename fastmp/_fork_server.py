"""The process of the fork server: it preloads, then forks whenever a client asks (forkserver.py).

What it loads, and what it touches, each of its children pays for: it keeps away from modules that are large
or have something to do in each child.
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
from _operator import _compare_digest as compare_digest

from . import _core, _newborn, context, process, reduction, spawn
from ._launch import fork
from ._launch.fork import live
from .connection import _same_user
from .forkserver import BEGIN, HEARD, MAIN, NONCE_BYTES, PROOF_BYTES, _forkserver, _number, _prove

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Any, BinaryIO, NoReturn

__all__ = ["main"]

MOST_GUESTS = 128
LONGEST_REQUEST = 512
RETRY_SECONDS = 0.05
MAIN_KEYS = "init_main_"


def main(listener_fd: int, alive_fd: int, arena_fd: int, settings_fd: int, report_fd: int) -> NoReturn:
    """Preload, then serve until no process of the family is left."""
    for fd in (listener_fd, alive_fd, arena_fd, settings_fd, report_fd):
        os.set_inheritable(fd, False)
    _core.attach(arena_fd, 0)
    _empty_stdin()
    with open(settings_fd, "rb") as file:
        key, used, modules, on_error, data = _pickle.load(file)
    for name in used:  # of our own modules; children will use what their parent uses
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with open(report_fd, "wb") as report:
        _preload(modules, on_error, data, report)
    process._flush_std_streams()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = _Server(listener_fd, alive_fd, key, limits)
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


class _Stock:
    """The connection to a client that has children forked ahead."""

    def __init__(self, sock: socket.socket, client: int) -> None:
        self.sock = sock
        self.client = client  # the client's sentinel
        self.owed = 0  # so many are to be forked for it


class _Server:
    """Waits for whatever is next: a client, what a client says, the end of a child, the end of the family."""

    def __init__(self, listener_fd: int, alive_fd: int, key: bytes, limits: tuple[int, int]) -> None:
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
        self._stocks: dict[int, _Stock] = {}
        self._example: _core.Block | None = None  # of what a child forked ahead is told
        self._watch(alive_fd, self._end)
        self._watch(listener_fd, self._accept)

    def serve(self) -> None:
        """Until the end of the family."""
        while self._serving:
            owing = next((stock for stock in self._stocks.values() if stock.owed), None)
            events = self._epoll.poll(None if owing is None else 0, maxevents=1)
            for fd, _ in events:
                self._actions[fd]()
            if owing is not None and not events:
                self._hand_over(owing)

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
                self._open_stock(sock, fds)
            else:
                self._beget(sock, owner, ticket, fds, last)
        except (OSError, MemoryError) as e:
            sock.send(_refusal(e))
            self._dismiss(sock)
        finally:
            for fd in fds:
                os.close(fd)

    # ---- children forked ahead

    def _open_stock(self, sock: socket.socket, fds: list[int]) -> None:
        self._example = self._example or _pack_example()
        sock.send(_number.pack(0), socket.MSG_DONTWAIT)
        del self._guests[sock.fileno()]
        stock = self._stocks[sock.fileno()] = _Stock(sock, fds.pop())
        self._lines.add(stock.client)
        self._actions[sock.fileno()] = functools.partial(self._hear_stock, stock)

    def _hear_stock(self, stock: _Stock) -> None:
        """The client wants more, or has gone."""
        try:
            packet = stock.sock.recv(_number.size, socket.MSG_DONTWAIT)
            stock.owed += _number.unpack(packet)[0]
        except (OSError, struct.error):
            self._close_stock(stock)

    def _close_stock(self, stock: _Stock) -> None:
        del self._stocks[stock.sock.fileno()]
        self._unwatch(stock.sock.fileno())
        stock.sock.close()
        self._lines.remove(stock.client)
        os.close(stock.client)
        if not self._stocks:
            self._example = None

    def _hand_over(self, stock: _Stock) -> None:
        """Fork one of those that are owed, or say why not."""
        stock.owed -= 1
        try:
            try:
                self._fork_ahead(stock)
            except (OSError, MemoryError) as e:
                stock.sock.send(_refusal(e), socket.MSG_DONTWAIT)
        except OSError:  # the client has gone
            self._close_stock(stock)

    def _fork_ahead(self, stock: _Stock) -> None:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ours:
            child = _fork(0, ())
            if child is None:
                theirs.close()
                live(functools.partial(self._stand_by, ours))
            line, client = ours.detach(), os.dup(stock.client)
            self._guard(child, line, client)
            fds = [theirs.fileno(), child.sentinel]
            socket.send_fds(stock.sock, [_number.pack(child.pid)], fds, socket.MSG_DONTWAIT)

    def _stand_by(self, line: socket.socket) -> int:
        """The child forked ahead, until its exit code is known."""
        self._shed(line.fileno())
        self._rehearse()
        order = _receive_order(line)
        if order is None:
            return 0
        owner, ticket, blocked, fds = order
        _core.become(owner)
        return self._begin(line.detach(), ticket, fds, blocked)

    def _rehearse(self) -> None:
        """In a child forked ahead: it does what it will do, with an order of its own. So pages that it writes
        to are copied before anybody waits for it."""
        assert self._example is not None
        with contextlib.suppress(Exception):  # what fails here fails again where it is told
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                socket.send_fds(ours, [_pickle.dumps((0, (0,) * 4, [_signal.SIGINT]))], [ours.fileno()])
                _, _, blocked, fds = _receive_order(theirs)  # type: ignore[misc]
                os.close(fds[0])
                ours.send(BEGIN)
                self._await_begin(theirs.detach(), blocked)
            process.rehearse(_newborn._main(self._example))
        self._example = None

    # ---- children

    def _beget(
        self, sock: socket.socket, owner: int, ticket: Any, fds: list[int], blocked: Collection[int]
    ) -> None:
        child = _fork(owner, blocked)
        if child is None:
            live(functools.partial(self._live, sock.fileno(), ticket, fds, blocked))
        with contextlib.suppress(OSError):  # nobody is there any more: the child sees that as well
            socket.send_fds(sock, [_number.pack(child.pid)], [child.sentinel])
        del self._guests[sock.fileno()]
        self._unwatch(sock.fileno())
        self._guard(child, sock.detach(), fds.pop(0))

    def _guard(self, child: _core.Child, line: int, client: int) -> None:
        """See to it that a child is reaped: on its line the client is told its end, `client` is his."""
        self._lines |= {line, client}
        self._watch(child.sentinel, functools.partial(self._tell_end, child, line, client))

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
            if os.read(line, len(HEARD)) not in (HEARD, b""):  # what a killed child has not read
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
        for fd in {self._epoll.fileno(), *self._actions, *self._lines} - {kept}:
            os.close(fd)

    def _begin(self, line: int, ticket: Any, fds: Sequence[int], blocked: Collection[int]) -> int:
        """The child that knows what to be."""
        if not self._await_begin(line, blocked):
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

    def _await_begin(self, line: int, blocked: Collection[int]) -> bool:
        """Until the child is told to begin; False if nobody can tell it any more."""
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        _signal.signal(_signal.SIGINT, self._on_sigint)
        _newborn.hold_interrupts(blocked)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        begin = os.read(line, len(BEGIN))
        os.close(line)
        return bool(begin)


def _receive_order(line: socket.socket) -> tuple[int, Any, Collection[int], list[int]] | None:
    """What a child forked ahead is to be: its place in the arena, ticket, blocked signals, descriptors."""
    order, fds = reduction.receive(line, LONGEST_REQUEST, reduction.MOST_FDS)
    return (*_pickle.loads(order), fds) if order else None


def _refusal(e: OSError | MemoryError) -> bytes:
    return _number.pack(-(getattr(e, "errno", None) or errno.ENOMEM))


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
