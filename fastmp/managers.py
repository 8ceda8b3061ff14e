"""Managers: objects that live in a server process, and the proxies through which others use them.

    process of a user                                     process of the manager
    proxy --- one connection for each thread ------------> thread: serve_client, calls the methods
    proxy --- a connection for each errand (1) ----------> thread: create, incref, decref, ...

On the wire stand tuples: (ident, method, args, kwds) out, (kind, result) back. `ident` names the object,
None is the server itself. The kinds: #RETURN, #ERROR (the exception), #PROXY (exposed methods and token
of a new object), #TRACEBACK and #UNSERIALIZABLE (a text). The standard library speaks the same.
(1) Or the connection of the thread, where there is an idle one and the server is not the standard library's.

An object lives while it is referred to. References are counted in the server:
- each proxy is one.
- before a fork the parent takes a lease for the child: a connection that stands for a reference of each proxy
  there is. The child may give them back one by one; what is left goes when the connection does, at the latest
  with the child. So the parent's proxies may be gone before the child has run a line, and a child that is
  killed leaves nothing behind. A server that knows no leases gets the references counted by the child.
- a pickle of a proxy is one too, under a ticket, for the proxy may be gone before the pickle is loaded.
  The first that loads it redeems the ticket, that is, takes the reference over. Tickets that went out with
  an answer are void once the client asks the next question: it has loaded the answer by then.
Idents are random, so one that outlived its object, or the server, never means another object.

In the process of its own server a proxy calls and counts directly, without a connection. So proxies may be
put into managed objects, and go away with them.

The manager's process ends when it is told to, and when its parent has ended in whatever way.
"""

from __future__ import annotations

import array
import collections.abc
import contextlib
import importlib
import os
import queue
import secrets
import signal
import sys
import threading
import time
import traceback
import types
import weakref

import fastmp

from . import _logging, connection, process, reduction
from ._core import AuthenticationError, ProcessError
from ._finalize import Finalize, register_after_fork
from ._spawning import get_spawning_popen

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, ClassVar, Self, TypeAlias, TypeVar

    Address: TypeAlias = Any
    Message: TypeAlias = tuple[str, Any]
    # how to make the object, the names it exposes, typeids of what methods return, how to make the proxy
    Registered: TypeAlias = tuple[Any, Any, Any, Any]
    Registry: TypeAlias = dict[str, Registered]
    T = TypeVar("T")
    ProxyClass = TypeVar("ProxyClass", bound="type[BaseProxy]")

__all__ = ["BaseManager", "BaseProxy", "SyncManager", "Token"]

BACKLOG = 128
ERRAND_SECONDS = 5.0  # for errands that nobody asked for: to take and give back references, to end the server
RETRY_SECONDS = 0.05  # after an accept() that failed, mostly for want of descriptors
REMOTE_NOTE = "Traceback of the manager's process:\n"

listener_client = {
    "pickle": (connection.Listener, connection.Client),
    "xmlrpclib": (connection.XmlListener, connection.XmlClient),
}


# ---- messages --------------------------------------------------------------------------------------


class Token:
    """What names an object: its typeid, where its server is, and its ident there."""

    __slots__ = ("address", "id", "typeid")

    def __init__(self, typeid: str, address: Address, id: str) -> None:
        self.typeid, self.address, self.id = typeid, address, id

    def __getstate__(self) -> tuple[str, Address, str]:
        return self.typeid, self.address, self.id

    def __setstate__(self, state: tuple[str, Address, str]) -> None:
        self.typeid, self.address, self.id = state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


class RemoteError(Exception):
    """What went wrong in the manager's process; its text is the traceback."""

    def __str__(self) -> str:
        return f"\n{'-' * 75}\n{self.args[0]}{'-' * 75}"


def convert_to_error(kind: str, result: Any) -> BaseException:
    """The exception to raise for an answer that is not a result."""
    if kind == "#ERROR":
        return _with_cause(result)
    if kind in ("#TRACEBACK", "#UNSERIALIZABLE"):
        if not isinstance(result, str):
            raise TypeError(f"Result {result!r} (kind {kind!r}) type is {type(result)}, not str")
        return RemoteError(f"Unserializable message: {result}\n" if kind == "#UNSERIALIZABLE" else result)
    return ValueError(f"Unrecognized message type {kind!r}")


def dispatch(c: Any, id: str | None, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
    """Ask a question over a connection and return the answer, or raise what came instead."""
    c.send((id, methodname, args, kwds))
    return _receive_result(c)


def _receive_result(c: Any) -> Any:
    return _unwrap(*c.recv())


def _unwrap(kind: str, result: Any) -> Any:
    if kind == "#RETURN":
        return result
    try:
        raise convert_to_error(kind, result)
    finally:
        del result  # or the exception and this frame would hold each other, and whatever called us


# A connection may be one of those with a serialisation of their own. To load what came over it, or to dump
# what is to go, as a step of its own tells what the message does wrong from what the connection does.


def _load(conn: Any, data: bytes) -> Any:
    return getattr(conn, "_loads", reduction.loads)(data)


def _dump(conn: Any, message: Any) -> bytes:
    data: bytes = getattr(conn, "_dumps", reduction.dumps)(message)
    return data


def _error_message(error: Exception) -> Message:
    """An exception as it travels: with its traceback, which pickle would drop, as a note."""
    text = "".join(traceback.format_exception(error))
    note = REMOTE_NOTE + text
    try:
        error.add_note(note)
        try:
            copy = reduction.loads(reduction.dumps(error))
        finally:
            error.__notes__.remove(note)  # the same exception may be raised again
    except Exception:
        return "#UNSERIALIZABLE", f"{traceback.format_exc()}\nThe error was:\n\n{text}"
    return "#ERROR", copy


def _with_cause(error: BaseException) -> BaseException:
    """An exception as it is raised here: the other side's traceback, if it came along, is the cause."""
    for note in getattr(error, "__notes__", ()):
        if note.startswith(REMOTE_NOTE):
            error.__notes__.remove(note)
            error.__cause__ = RemoteError(note.removeprefix(REMOTE_NOTE))
            break
    return error


# ---- the server --------------------------------------------------------------------------------------


def all_methods(obj: object) -> list[str]:
    """The names of an object's methods."""
    return [name for name in dir(obj) if callable(getattr(obj, name))]


def public_methods(obj: object) -> list[str]:
    """Those of them that do not start with an underscore."""
    return [name for name in all_methods(obj) if not name.startswith("_")]


class _StopEvent(threading.Event):
    """An event with a descriptor that is readable once it is set, until close()."""

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)

    def set(self) -> None:
        super().set()
        with self._guard:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        return self._fd

    def close(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be gone at the end
        with self._guard:
            if self._fd >= 0:
                close(self._fd)
            self._fd = -1

    __del__ = close


class Server:
    """Holds the objects and serves those who know the key, each connection in a thread of its own."""

    public = (
        "shutdown",
        "create",
        "get_methods",
        "debug_info",
        "number_of_objects",
        "dummy",
        "incref",
        "decref",
        "hold",
        "redeem",
    )
    conversations = ("accept_connection", "lease")

    def __init__(self, registry: Registry, address: Address, authkey: bytes, serializer: str) -> None:
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        make_listener, _ = listener_client[serializer]
        self.listener = make_listener(address=address, backlog=BACKLOG, authkey=self.authkey)
        self.address = self.listener.address
        self.stop_event = _StopEvent()
        self.mutex = threading.RLock()
        self.id_to_obj: dict[str, tuple[Any, set[str], Mapping[str, str] | None]] = {}
        self.id_to_refcount: dict[str, int] = {}
        self._idents: dict[int, str] = {}  # of the same objects, by id()
        self._tickets: dict[str, str] = {}  # the ident of the reference that each stands for
        self._issuing = threading.local()  # .tickets: those in the answer that this thread is sending
        self._connections: set[Any] = set()
        self._ending = False

    # -- the life of the server

    def serve_forever(self) -> None:
        """Serve until stop_event is set, then exit."""
        _servers[self.address] = self
        try:
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                self._accept_clients()
        finally:
            _servers.pop(self.address, None)
            self.listener.close()
            self.stop_event.set()
            self.stop_event.close()
        sys.exit(0)

    def _accept_clients(self) -> None:
        while not self.stop_event.is_set():
            if self.listener not in connection.wait([self.listener, self.stop_event]):
                continue
            try:
                sock = self.listener.accept_socket()
            except OSError:
                self.stop_event.wait(RETRY_SECONDS)
                continue
            try:
                threading.Thread(target=self.handle_request, args=(sock,), daemon=True).start()
            except RuntimeError:  # there are too many threads
                sock.close()

    def handle_request(self, sock: socket.socket) -> None:
        """Serve one client until it leaves: an errand, or calls of methods."""
        try:
            conn = self.listener.receive(sock)
        except (AuthenticationError, EOFError, OSError) as e:
            _logging.debug("a client was refused: %r", e)
            return
        self._connections.add(conn)
        try:
            self._run_errand(conn)
        except (EOFError, OSError) as e:
            _logging.debug("the connection to a client is lost: %r", e)
        finally:
            self._connections.discard(conn)
            conn.close()

    def _run_errand(self, conn: Any) -> None:
        data = conn.recv_bytes()
        try:
            _, name, args, kwds = _load(conn, data)
        except Exception:
            self._send(conn, ("#TRACEBACK", traceback.format_exc()))
        else:
            if name in self.conversations:
                getattr(self, name)(conn, *args, **kwds)
            else:
                self._send(conn, self.perform(None, name, args, kwds))

    def after_fork(self) -> None:
        """In a child of this process, which is not the server: let go of the clients and their address."""
        self.listener.close()
        for conn in self._connections:
            conn.close()

    # -- calls of methods

    def accept_connection(self, c: Any, name: str) -> None:
        """Call methods for a client until it leaves."""
        threading.current_thread().name = name
        c.send(("#RETURN", None))
        self.serve_client(c)

    def serve_client(self, conn: Any) -> None:
        """Answer calls until the client leaves. Only then does EOFError end the loop."""
        issued: list[str] = []
        try:
            while not self.stop_event.is_set():
                answer = self._answer(conn)
                self._void(issued)
                issued = self._send(conn, answer)
        finally:
            self._void(issued)

    def _answer(self, conn: Any) -> Message:
        data = conn.recv_bytes()
        try:
            return self.perform(*_load(conn, data))
        except Exception:  # a request that can't be loaded here, or is none
            return "#TRACEBACK", traceback.format_exc()

    def perform(
        self,
        ident: str | None,
        methodname: str,
        args: Any = (),
        kwds: Any = {},  # noqa: B006
    ) -> Message:
        """Call a method of an object, or of the server. The answer, as it is sent."""
        if ident is None:
            return self._perform_errand(methodname, args, kwds)
        try:
            obj, exposed, method_to_typeid = self._find(ident)
            if methodname in exposed:
                function = getattr(obj, methodname)
            elif methodname in self.fallback_mapping:
                function = types.MethodType(self.fallback_mapping[methodname], obj)
            else:
                raise AttributeError(
                    f"method {methodname!r} of {type(obj)!r} object is not in exposed={exposed!r}"
                )
        except Exception:
            return "#TRACEBACK", traceback.format_exc()
        try:
            result = function(*args, **kwds)
            typeid = method_to_typeid and method_to_typeid.get(methodname)
            if not typeid:
                return "#RETURN", result
            new_ident, new_exposed = self.create(None, typeid, result)
            return "#PROXY", (new_exposed, Token(typeid, self.address, new_ident))
        except Exception as e:
            return _error_message(e)
        except BaseException:  # sys.exit() in a method is not meant for the client
            return "#TRACEBACK", traceback.format_exc()

    fallback_mapping: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "__str__": str,
        "__repr__": repr,
        "#GETVALUE": lambda obj: obj,
    }

    def _perform_errand(self, name: str, args: Any, kwds: Any) -> Message:
        try:
            if name not in self.public:
                raise AttributeError(f"{name!r} is not a function of the server")
            return "#RETURN", getattr(self, name)(None, *args, **kwds)
        except Exception:
            return "#TRACEBACK", traceback.format_exc()

    def _send(self, conn: Any, answer: Message) -> list[str]:
        """Send an answer. The tickets of the proxies in it, which are void after the next request."""
        issued = self._issuing.tickets = []
        try:
            conn.send(answer)
        except OSError:
            raise
        except Exception:
            conn.send(("#UNSERIALIZABLE", traceback.format_exc()))
        finally:
            del self._issuing.tickets
        if self._ending:
            self.stop_event.set()
        return issued

    def _void(self, tickets: list[str]) -> None:
        for ticket in tickets:
            ident = self._tickets.pop(ticket, None)
            if ident is not None:
                self.decref(None, ident)

    # -- errands

    def create(self, c: Any, typeid: str, /, *args: Any, **kwds: Any) -> tuple[str, tuple[str, ...]]:
        """Make an object of a registered type. The caller gets a reference."""
        make, exposed, method_to_typeid, _ = self.registry[typeid]
        if make is not None:
            obj = make(*args, **kwds)
        elif kwds or len(args) != 1:
            raise ValueError("Without callable, must have one non-keyword argument")
        else:
            obj = args[0]
        names = {*(public_methods(obj) if exposed is None else exposed), *(method_to_typeid or ())}
        with self.mutex:
            ident = self._idents.setdefault(id(obj), secrets.token_hex(8))
            self.id_to_obj[ident] = (obj, names, method_to_typeid)
            self.id_to_refcount[ident] = self.id_to_refcount.get(ident, 0) + 1
        _logging.debug("%r callable returned object with id %r", typeid, ident)
        return ident, tuple(names)

    def incref(self, c: Any, ident: str) -> None:
        """One more refers to an object."""
        with self.mutex:
            self._find(ident)
            self.id_to_refcount[ident] += 1

    def decref(self, c: Any, ident: str) -> None:
        """One less refers to an object; the last one takes it along."""
        with self.mutex:
            entry = self._find(ident)
            self.id_to_refcount[ident] -= 1
            if self.id_to_refcount[ident]:
                return
            del self.id_to_refcount[ident], self.id_to_obj[ident], self._idents[id(entry[0])]
        _logging.debug("disposing of obj with id %r", ident)
        del entry  # outside the mutex: what goes with the object may take long

    def hold(self, c: Any, ident: str) -> str:
        """A reference for a pickle: the ticket of which it carries."""
        ticket = secrets.token_hex(8)
        with self.mutex:
            self.incref(c, ident)
            self._tickets[ticket] = ident
        if hasattr(self._issuing, "tickets"):
            self._issuing.tickets.append(ticket)
        return ticket

    def redeem(self, c: Any, ident: str, ticket: str) -> None:
        """A reference for who loads a pickle: the pickle's own, unless another has had that."""
        with self.mutex:
            if self._tickets.pop(ticket, None) is None:
                self.incref(c, ident)

    def lease(self, c: Any, idents: list[str]) -> None:
        """References for a process, which gives each back by its ident, and all when it leaves."""
        with self.mutex:
            held = [ident for ident in idents if ident in self.id_to_obj]
            for ident in held:
                self.incref(c, ident)
        try:
            c.send(("#RETURN", held))
            while not self.stop_event.is_set():
                held.remove(ident := c.recv())
                self.decref(c, ident)
        finally:
            for ident in held:
                self.decref(c, ident)

    def get_methods(self, c: Any, token: Token) -> tuple[str, ...]:
        """The names that an object exposes."""
        return tuple(self._find(token.id)[1])

    def number_of_objects(self, c: Any) -> int:
        """How many objects there are."""
        return len(self.id_to_refcount)

    def debug_info(self, c: Any) -> str:
        """A text that lists the objects."""
        with self.mutex:
            return "\n".join(
                f"  {ident}:       refcount={self.id_to_refcount[ident]}\n    {str(entry[0])[:75]}"
                for ident, entry in sorted(self.id_to_obj.items())
            )

    def dummy(self, c: Any) -> None:
        """Nothing: a client sees whether the server is there."""

    def shutdown(self, c: Any) -> None:
        """The server ends once this has been answered."""
        _logging.debug("manager received shutdown message")
        self._ending = True

    def _find(self, ident: str) -> tuple[Any, set[str], Mapping[str, str] | None]:
        try:
            return self.id_to_obj[ident]
        except KeyError:
            raise KeyError(f"the manager at {self.address!r} has no object {ident!r} (any more)") from None


_servers: dict[Address, Server] = {}  # those that run in this process


# ---- the manager ---------------------------------------------------------------------------------------


class State:
    """What has become of a manager; its finalizers share it."""

    __slots__ = ("value",)
    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2

    def __init__(self) -> None:
        self.value = State.INITIAL


class BaseManager:
    """Starts a server process, or connects to one, and makes proxies of the objects in it.

    `register` gives the class a method for each type of object that the server can make.
    """

    _registry: ClassVar[Registry] = {}
    _Server = Server

    shutdown: Finalize

    def __init__(
        self,
        address: Address = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        self._address = address
        self._authkey = process.AuthenticationString(
            process.current_process().authkey if authkey is None else authkey
        )
        self._state = State()
        self._serializer = serializer
        self._Listener, self._Client = listener_client[serializer]
        self._ctx = ctx or fastmp.get_context()
        self._process: process.BaseProcess | None = None
        self._shutdown_timeout = shutdown_timeout

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Start the server process. There `initializer(*initargs)` is called first."""
        self._require_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        reader, writer = connection.Pipe(duplex=False)
        with reader:
            with writer:
                child = self._ctx.Process(
                    target=type(self)._run_server,
                    args=(
                        self._registry,
                        self._address,
                        self._authkey,
                        self._serializer,
                        writer,
                        initializer,
                        initargs,
                    ),
                )
                child.name = f"{type(self).__name__}-{':'.join(map(str, child._identity))}"
                child.start()
            try:
                self._address = reader.recv()
            except EOFError:
                child.join()
                raise EOFError(
                    f"{child.name} ended before it was ready, with exit code {child.exitcode}"
                ) from None
        self._process = child
        self._begin()
        self.shutdown = Finalize(
            self,
            self._finalize_manager,
            args=(child, self._address, self._authkey, self._state, self._Client, self._shutdown_timeout),
            exitpriority=0,
        )

    def connect(self) -> None:
        """Use a server that is running already."""
        self._ask("dummy")
        self._begin()

    def get_server(self) -> Server:
        """A server that is not running yet, to be run in this process by its serve_forever()."""
        self._require_initial()
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    @classmethod
    def _run_server(
        cls,
        registry: Registry,
        address: Address,
        authkey: bytes,
        serializer: str,
        writer: connection.Connection,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """What the server process does."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who uses it
        process.current_process().authkey = authkey
        if initializer is not None:
            initializer(*initargs)
        server = cls._Server(registry, address, authkey, serializer)
        threading.Thread(target=_stop_with_parent, args=(server.stop_event,), daemon=True).start()
        writer.send(server.address)
        writer.close()
        server.serve_forever()

    @staticmethod
    def _finalize_manager(
        child: process.BaseProcess,
        address: Address,
        authkey: bytes,
        state: State,
        client: Any,
        shutdown_timeout: float,
    ) -> None:
        """End the server process: ask it, then tell it."""
        if child.is_alive():
            _logging.info("sending shutdown message to manager")
            with contextlib.suppress(Exception):
                _run_errand(address, authkey, client, "shutdown", patience=ERRAND_SECONDS)
            child.join(shutdown_timeout)
        if child.is_alive():
            _logging.info("manager still alive")
            child.terminate()
            child.join(shutdown_timeout)
        if child.is_alive():
            _logging.info("manager still alive after terminate")
            child.kill()
            child.join()
        child._popen.close()  # only its sentinel: the exit code stays
        state.value = State.SHUTDOWN
        _keys.pop(address, None)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the server process has ended, or for `timeout` seconds."""
        if self._process is None:
            return
        self._process.join(timeout)
        if not self._process.is_alive():
            self._process = None

    @property
    def address(self) -> Address:
        return self._address

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Callable[..., Any] | None = None,
        exposed: Iterable[str] | None = None,
        method_to_typeid: Mapping[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Let managers of this class make objects: by `callable`, used through a `proxytype`.

        Proxies may call the methods that are `exposed`. Those in `method_to_typeid` return, instead of
        their result, a proxy of that type for it.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        proxytype = proxytype or AutoProxy
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        method_to_typeid = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        for name, returned in (method_to_typeid or {}).items():
            assert type(name) is str, f"{name!r} is not a string"
            assert type(returned) is str, f"{returned!r} is not a string"
        cls._registry[typeid] = (callable, exposed, method_to_typeid, proxytype)
        if not create_method:
            return

        def make(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
            _logging.debug("requesting creation of a shared %r object", typeid)
            token, names = self._create(typeid, *args, **kwds)
            return _take_over(
                proxytype, token, self._serializer, manager=self, authkey=self._authkey, exposed=names
            )

        make.__name__ = typeid
        setattr(cls, typeid, make)

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[Token, tuple[str, ...]]:
        assert self._state.value == State.STARTED, "server not yet started"
        ident, exposed = self._ask("create", (typeid, *args), kwds)
        return Token(typeid, self._address, ident), exposed

    def _debug_info(self) -> str:
        text: str = self._ask("debug_info")
        return text

    def _number_of_objects(self) -> int:
        number: int = self._ask("number_of_objects")
        return number

    def _ask(self, name: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
        return _run_errand(self._address, self._authkey, self._Client, name, args, kwds)

    def _begin(self) -> None:
        self._state.value = State.STARTED
        _keys[self._address] = self._authkey

    def _require_initial(self) -> None:
        if self._state.value == State.STARTED:
            raise ProcessError("Already started server")
        if self._state.value == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")

    def __enter__(self) -> Self:
        if self._state.value == State.INITIAL:
            self.start()
        assert self._state.value == State.STARTED
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()

    if TYPE_CHECKING:

        def __getattr__(self, typeid: str) -> Any:
            """The methods that `register` makes."""


def _stop_with_parent(stop_event: threading.Event) -> None:
    parent = process.parent_process()
    assert parent is not None
    parent.join()
    stop_event.set()


# ---- the client's side ---------------------------------------------------------------------------------

_keys: dict[Address, bytes] = {}  # of the servers that this process or its parents know
_claims = threading.local()  # .tickets: idents of references that are there already, see BaseProxy._incref
TAKEN_OVER = ""  # in place of a ticket: the reference needs no redeeming


def _run_errand(
    address: Address,
    authkey: bytes,
    client: Any,
    name: str,
    args: Any = (),
    kwds: Any = {},  # noqa: B006
    patience: float | None = None,
) -> Any:
    """Let a server do something. With `patience`, give up after about that many seconds."""
    link = _links.get((address, client))
    if link is not None and link.at_hand():
        return _unwrap(*link.ask(authkey, None, name, args, kwds, patience=patience))
    conn, result = _begin_errand(address, authkey, client, name, args, kwds, patience)
    conn.close()
    return result


def _begin_errand(
    address: Address,
    authkey: bytes,
    client: Any,
    name: str,
    args: Any = (),
    kwds: Any = {},  # noqa: B006
    patience: float | None = None,
) -> tuple[Any, Any]:
    """As _run_errand, but for more to be said: the connection is returned with the result."""
    if patience is not None and client is connection.Client:
        conn = connection.Client(address, authkey=authkey, timeout=patience)
    else:
        conn = client(address, authkey=authkey)
    try:
        conn.send((None, name, args, kwds))
        _await_answer(conn, address, patience)
        return conn, _receive_result(conn)
    except BaseException:
        conn.close()
        raise


def _await_answer(conn: Any, address: Address, patience: float | None) -> None:
    if patience is not None and not conn.poll(patience):
        raise TimeoutError(f"the manager at {address!r} does not answer")


def _take_over(
    proxytype: Any, token: Token, serializer: str, *, authkey: bytes, ticket: str = TAKEN_OVER, **kwds: Any
) -> Any:
    """Make a proxy for which there is a reference in the server already."""
    claims = _claims.__dict__.setdefault("tickets", {})
    claims[token.id] = ticket
    try:
        return proxytype(token, serializer, authkey=authkey, **kwds)
    finally:
        if claims.pop(token.id, None) == TAKEN_OVER:  # no proxy was made that wants it
            client = listener_client[serializer][1]
            _run_errand(token.address, authkey, client, "decref", (token.id,))


class _Link:
    """The connections of this process to one server: one for each thread that calls methods.

    The proxies of the server share it and are all that holds it; without them the connections close.
    """

    def __init__(self, address: Address, client: Any) -> None:
        self.address = address
        self.client = client
        self.proxies: weakref.WeakValueDictionary[int, BaseProxy] = weakref.WeakValueDictionary()
        self.lease: _Lease | None = None  # of this process
        self._runs_errands: bool | None = None  # whether the server does, on connections for methods
        self._local = threading.local()  # .connection, .busy; .lease: for the child that is being forked

    def ask(self, authkey: bytes, *request: Any, patience: float | None = None) -> Message:
        """Send a request and return the answer."""
        if getattr(self._local, "busy", False):
            # A finalizer of the program's asks, in the midst of another request of this thread.
            with contextlib.closing(self._connect(authkey)) as conn:
                return self._exchange(conn, request, patience)
        conn = self._connection(authkey)
        self._local.busy = True
        try:
            return self._exchange(conn, request, patience)
        finally:
            self._local.busy = False

    def at_hand(self) -> bool:
        """Whether this thread has a connection that can be used for an errand now."""
        local = self._local.__dict__
        return "connection" in local and not local["busy"] and self._runs_errands is True

    def _exchange(self, conn: Any, request: tuple[Any, ...], patience: float | None) -> Message:
        data = _dump(conn, request)
        try:
            conn.send_bytes(data)
            _await_answer(conn, self.address, patience)
            kind, result = conn.recv()
        except EOFError:
            self._hang_up(conn)
            raise EOFError(f"the manager at {self.address!r} has ended") from None
        except BaseException:
            # Perhaps the answer is still to come, and would be taken for that to the next request.
            self._hang_up(conn)
            raise
        return kind, result

    def _connection(self, authkey: bytes) -> Any:
        conn = getattr(self._local, "connection", None)
        if conn is not None:
            if not conn.poll(0):
                return conn
            self._hang_up(conn)  # there can be nothing to read but the end: the server was another one
        conn = self._local.connection = self._connect(authkey)
        return conn

    def _connect(self, authkey: bytes) -> Any:
        name = process.current_process().name
        if threading.current_thread() is not threading.main_thread():
            name += "|" + threading.current_thread().name
        conn, _ = _begin_errand(self.address, authkey, self.client, "accept_connection", (name,))
        if self._runs_errands is None:
            conn.send((None, "dummy", (), {}))
            self._runs_errands = conn.recv()[0] == "#RETURN"
        return conn

    def _hang_up(self, conn: Any) -> None:
        conn.close()
        if getattr(self._local, "connection", None) is conn:
            del self._local.connection

    def before_fork(self) -> None:
        """Take a lease for the child."""
        proxies = _living(self.proxies)
        if not proxies or self.address in _servers:
            return
        try:
            conn, idents = _begin_errand(
                self.address,
                proxies[0]._authkey,
                self.client,
                "lease",
                ([proxy._id for proxy in proxies],),
                patience=ERRAND_SECONDS,
            )
        except Exception as e:  # the manager has ended, or knows no leases
            _logging.debug("no lease for a child: %s", e)
        else:
            self._local.lease = _Lease(conn, idents)

    def after_fork_in_parent(self) -> None:
        """The lease is the child's."""
        lease = self._local.__dict__.pop("lease", None)
        if lease is not None:
            lease.close()

    def after_fork_in_child(self) -> None:
        """The lease is ours; the other connections are the parent's."""
        if self.lease is not None:
            self.lease.close()
        self.lease = self._local.__dict__.get("lease")
        self._local = threading.local()


class _Lease:
    """A connection on which references depend that the parent of this process took for it."""

    def __init__(self, conn: Any, idents: list[str]) -> None:
        self._conn = conn
        self._idents = idents

    def claim(self, ident: str) -> bool:
        """Take over one of the references, if there is one."""
        if ident not in self._idents:
            return False
        self._idents.remove(ident)
        return True

    def give_back(self, ident: str) -> None:
        try:
            self._conn.send(ident)
        except OSError as e:
            _logging.debug("... giving %r back failed: %s", ident, e)

    def close(self) -> None:
        self._conn.close()


_links: weakref.WeakValueDictionary[tuple[Address, Any], _Link] = weakref.WeakValueDictionary()


def _living(values: weakref.WeakValueDictionary[Any, T]) -> list[T]:
    """The values, also while other threads add some."""
    return [value for ref in values.valuerefs() if (value := ref()) is not None]


def _before_fork() -> None:
    for link in _living(_links):
        link.before_fork()


def _after_fork_in_parent() -> None:
    for link in _living(_links):
        link.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for server in _servers.values():
        server.after_fork()
    _servers.clear()
    for link in _living(_links):
        link.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


class BaseProxy:
    """Stands for an object in a server; subclasses call the object's methods by `_callmethod`."""

    _exposed_: ClassVar[tuple[str, ...]]
    _method_to_typeid_: ClassVar[Mapping[str, str] | None] = None
    _isauto = False

    def __init__(
        self,
        token: Token,
        serializer: str,
        manager: BaseManager | None = None,
        authkey: bytes | None = None,
        exposed: Iterable[str] | None = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        self._token = token
        self._id = token.id
        self._manager = manager
        self._manager_class: Any = manager and type(manager)  # or its module and name, if pickled
        self._serializer = serializer
        self._owned_by_manager = manager_owned
        self._Client = listener_client[serializer][1]
        self._authkey = process.AuthenticationString(_find_key(token.address, manager, authkey))
        _keys.setdefault(token.address, self._authkey)
        link = _links.get((token.address, self._Client))
        if link is None:
            link = _links[token.address, self._Client] = _Link(token.address, self._Client)
        self._link = link
        self._ticket: str | None = None  # of the pickle it was loaded from, if it has no reference yet
        if incref:
            self._incref()
        link.proxies[id(self)] = self  # by id(): what proxies forward may include __hash__
        register_after_fork(self, BaseProxy._after_fork)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
        """Call a method of the object. Its result, or a proxy for it; or what it raised is raised."""
        server = _servers.get(self._token.address)
        if server is None:
            kind, result = self._link.ask(self._authkey, self._id, methodname, args, kwds)
        else:
            kind, result = server.perform(self._id, methodname, args, kwds)
            if kind == "#RETURN":
                result = reduction.loads(reduction.dumps(result))  # a copy, as everybody gets
        try:
            return self._make_proxy(*result) if kind == "#PROXY" else _unwrap(kind, result)
        finally:
            del result  # as in _unwrap

    def _getvalue(self) -> Any:
        """A copy of the object."""
        return self._callmethod("#GETVALUE")

    def _make_proxy(self, exposed: tuple[str, ...], token: Token) -> Any:
        token.address = self._token.address  # the server may have another name for it
        proxytype = self._registry().get(token.typeid, (AutoProxy,))[-1]
        proxy = _take_over(
            proxytype,
            token,
            self._serializer,
            manager=self._manager,
            authkey=self._authkey,
            exposed=exposed,
        )
        if isinstance(proxy, BaseProxy):
            proxy._manager_class = self._manager_class
        return proxy

    def _registry(self) -> Registry:
        """What the class of the manager knows, also where there is no manager, or only its name."""
        if isinstance(self._manager_class, tuple):
            self._manager_class = _find_class(*self._manager_class)
        registry: Registry = getattr(self._manager_class, "_registry", {})
        return registry

    def _incref(self) -> None:
        """Refer to the object until this proxy dies; with a reference that is there already, if one is."""
        ticket = _claims.__dict__.get("tickets", {}).pop(self._id, self._ticket)
        self._ticket = None
        if ticket is None:
            self._run_errand("incref", self._id)
        elif ticket != TAKEN_OVER:
            self._run_errand("redeem", self._id, ticket)
        state = self._manager._state if self._manager is not None else None
        self._close = Finalize(
            self,
            BaseProxy._decref,
            args=(self._token, self._authkey, state, self._link),
            exitpriority=10,
        )

    @staticmethod
    def _decref(token: Token, authkey: bytes, state: State | None, link: _Link) -> None:
        if state is not None and state.value != State.STARTED:
            _logging.debug("DECREF %r -- manager already shutdown", token.id)
            return
        try:
            _logging.debug("DECREF %r", token.id)
            server = _servers.get(token.address)
            if server is None:
                _run_errand(
                    token.address, authkey, link.client, "decref", (token.id,), patience=ERRAND_SECONDS
                )
            else:
                server.decref(None, token.id)
        except Exception as e:
            _logging.debug("... decref failed: %s", e)

    def _run_errand(self, name: str, *args: Any) -> Any:
        server = _servers.get(self._token.address)
        if server is not None:
            return getattr(server, name)(None, *args)
        return _run_errand(self._token.address, self._authkey, self._Client, name, args)

    def _after_fork(self) -> None:
        self._manager = None
        lease = self._link.lease
        if lease is not None and lease.claim(self._id):
            self._close = Finalize(self, lease.give_back, args=(self._id,), exitpriority=10)
            return
        try:
            self._incref()
        except Exception as e:  # the manager may have ended, and nobody need use this proxy here
            _logging.info("incref failed: %s", e)

    def __reduce__(self) -> tuple[Any, ...]:
        kwds: dict[str, Any] = {}
        if get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        if self._isauto:
            kwds["exposed"] = self._exposed_
        proxytype = AutoProxy if self._isauto else type(self)
        home = self._manager_class
        if isinstance(home, type):
            home = (home.__module__, home.__qualname__)
        return RebuildProxy, (proxytype, self._token, self._serializer, kwds, self._hold(), home)

    def _hold(self) -> str | None:
        try:
            ticket: str = self._run_errand("hold", self._id)
        except (OSError, EOFError, RemoteError, KeyError) as e:  # who loads the pickle will know more
            _logging.debug("hold failed: %s", e)
            return None
        return ticket

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """The representation of the object, or that of the proxy if that fails."""
        try:
            text: str = self._callmethod("__repr__")
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"
        return text


def _find_key(address: Address, manager: BaseManager | None, authkey: bytes | None) -> bytes:
    if authkey is not None:
        return authkey
    if manager is not None:
        return manager._authkey
    return _keys.get(address) or process.current_process().authkey


def _find_class(module: str, qualname: str) -> Any:
    """The class of that name, or None if there is none here."""
    try:
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return None
    return found


def RebuildProxy(
    func: Callable[..., Any],
    token: Token,
    serializer: str,
    kwds: dict[str, Any],
    ticket: str | None = None,
    manager_class: tuple[str, str] | None = None,
) -> Any:
    """Load a proxy, with a reference of its own. While a process loads what it is to become, it does
    not talk to servers yet: its bootstrap then counts all proxies that are there."""
    if not kwds.pop("incref", True) or getattr(process.current_process(), "_inheriting", False):
        proxy = func(token, serializer, incref=False, **kwds)
        if isinstance(proxy, BaseProxy):
            proxy._ticket = ticket
    elif ticket is not None:
        kwds.setdefault("authkey", _find_key(token.address, None, None))
        proxy = _take_over(func, token, serializer, ticket=ticket, incref=True, **kwds)
    else:
        proxy = func(token, serializer, incref=True, **kwds)
    if isinstance(proxy, BaseProxy) and manager_class is not None:
        proxy._manager_class = manager_class
    return proxy


# ---- kinds of proxies ------------------------------------------------------------------------------------


def _forwarding(cls: ProxyClass) -> ProxyClass:
    """Give a class of proxies the methods in `_exposed_` that it does not define itself."""
    for name in cls._exposed_:
        if name not in cls.__dict__:
            setattr(cls, name, _forwarder(cls, name))
    return cls


def _forwarder(cls: type, name: str) -> Callable[..., Any]:
    def method(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = name
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


_made_types: dict[tuple[str, tuple[str, ...]], type[BaseProxy]] = {}


def MakeProxyType(name: str, exposed: Iterable[str]) -> type[BaseProxy]:
    """A class of proxies with these methods."""
    exposed = tuple(exposed)
    made = _made_types.get((name, exposed))
    if made is None:
        made = _forwarding(type(name, (BaseProxy,), {"_exposed_": exposed}))
        _made_types[name, exposed] = made
    return made


def AutoProxy(
    token: Token,
    serializer: str,
    manager: BaseManager | None = None,
    authkey: bytes | None = None,
    exposed: Iterable[str] | None = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> BaseProxy:
    """A proxy with the methods that the object exposes."""
    authkey = _find_key(token.address, manager, authkey)
    if exposed is None:
        client = listener_client[serializer][1]
        exposed = _run_errand(token.address, authkey, client, "get_methods", (token,))
    proxytype = MakeProxyType(f"AutoProxy[{token.typeid}]", sorted(exposed))
    proxy = proxytype(
        token, serializer, manager=manager, authkey=authkey, incref=incref, manager_owned=manager_owned
    )
    proxy._isauto = True
    return proxy


@_forwarding
class IteratorProxy(BaseProxy):
    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> Self:
        return self


class AcquirerProxy(BaseProxy):
    _exposed_: ClassVar[tuple[str, ...]] = ("acquire", "release", "locked")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> Any:
        return self._callmethod("acquire", (blocking,) if timeout is None else (blocking, timeout))

    def release(self) -> None:
        self._callmethod("release")

    def locked(self) -> Any:
        return self._callmethod("locked")

    def __enter__(self) -> Any:
        return self._callmethod("acquire")

    def __exit__(self, *exc_info: object) -> None:
        self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> Any:
        return self._callmethod("wait", (timeout,))

    def notify(self, n: int = 1) -> None:
        self._callmethod("notify", (n,))

    def notify_all(self) -> None:
        self._callmethod("notify_all")

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until the predicate, which is called here, is true."""
        until = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result


@_forwarding
class EventProxy(BaseProxy):
    _exposed_ = ("is_set", "set", "clear", "wait")


class BarrierProxy(BaseProxy):
    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> Any:
        return self._callmethod("wait", (timeout,))

    def abort(self) -> None:
        self._callmethod("abort")

    def reset(self) -> None:
        self._callmethod("reset")

    @property
    def parties(self) -> Any:
        return self._callmethod("__getattribute__", ("parties",))

    @property
    def n_waiting(self) -> Any:
        return self._callmethod("__getattribute__", ("n_waiting",))

    @property
    def broken(self) -> Any:
        return self._callmethod("__getattribute__", ("broken",))


class NamespaceProxy(BaseProxy):
    """Attributes are the object's, but for those that start with an underscore."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            return object.__getattribute__(self, key)
        return self._callmethod("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> None:
        if key.startswith("_"):
            return object.__setattr__(self, key, value)
        self._callmethod("__setattr__", (key, value))

    def __delattr__(self, key: str) -> None:
        if key.startswith("_"):
            return object.__delattr__(self, key)
        self._callmethod("__delattr__", (key,))


class ValueProxy(BaseProxy):
    _exposed_ = ("get", "set")

    def get(self) -> Any:
        return self._callmethod("get")

    def set(self, value: Any) -> None:
        self._callmethod("set", (value,))

    value = property(get, set)

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


@_forwarding
class BaseListProxy(BaseProxy):
    _exposed_ = (
        "__add__",
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__imul__",
        "__len__",
        "__mul__",
        "__reversed__",
        "__rmul__",
        "__setitem__",
        "append",
        "clear",
        "copy",
        "count",
        "extend",
        "index",
        "insert",
        "pop",
        "remove",
        "reverse",
        "sort",
    )


class ListProxy(BaseListProxy):
    def __iadd__(self, value: Any) -> Self:
        self._callmethod("extend", (value,))
        return self

    def __imul__(self, value: Any) -> Self:
        self._callmethod("__imul__", (value,))
        return self

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


@_forwarding
class _BaseDictProxy(BaseProxy):
    _exposed_ = (
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__ior__",
        "__iter__",
        "__len__",
        "__or__",
        "__reversed__",
        "__ror__",
        "__setitem__",
        "clear",
        "copy",
        "fromkeys",
        "get",
        "items",
        "keys",
        "pop",
        "popitem",
        "setdefault",
        "update",
        "values",
    )
    _method_to_typeid_: ClassVar = {"__iter__": "Iterator"}


class DictProxy(_BaseDictProxy):
    def __ior__(self, value: Any) -> Self:
        self._callmethod("__ior__", (value,))
        return self

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


@_forwarding
class _BaseSetProxy(BaseProxy):
    _exposed_ = (
        "__and__",
        "__contains__",
        "__ge__",
        "__gt__",
        "__iand__",
        "__ior__",
        "__isub__",
        "__iter__",
        "__ixor__",
        "__le__",
        "__len__",
        "__lt__",
        "__or__",
        "__rand__",
        "__ror__",
        "__rsub__",
        "__rxor__",
        "__sub__",
        "__xor__",
        "add",
        "clear",
        "copy",
        "difference",
        "difference_update",
        "discard",
        "intersection",
        "intersection_update",
        "isdisjoint",
        "issubset",
        "issuperset",
        "pop",
        "remove",
        "symmetric_difference",
        "symmetric_difference_update",
        "union",
        "update",
    )
    _method_to_typeid_: ClassVar = {"__iter__": "Iterator"}


class SetProxy(_BaseSetProxy):
    def __iand__(self, value: Any) -> Self:
        self._callmethod("__iand__", (value,))
        return self

    def __ior__(self, value: Any) -> Self:
        self._callmethod("__ior__", (value,))
        return self

    def __isub__(self, value: Any) -> Self:
        self._callmethod("__isub__", (value,))
        return self

    def __ixor__(self, value: Any) -> Self:
        self._callmethod("__ixor__", (value,))
        return self

    __class_getitem__: ClassVar[Any] = classmethod(types.GenericAlias)


collections.abc.MutableSequence.register(BaseListProxy)
collections.abc.MutableMapping.register(_BaseDictProxy)
collections.abc.MutableSet.register(_BaseSetProxy)


@_forwarding
class ArrayProxy(BaseProxy):
    _exposed_ = ("__len__", "__getitem__", "__setitem__")


@_forwarding
class BasePoolProxy(BaseProxy):
    _exposed_ = (
        "apply",
        "apply_async",
        "close",
        "imap",
        "imap_unordered",
        "join",
        "map",
        "map_async",
        "starmap",
        "starmap_async",
        "terminate",
    )
    _method_to_typeid_: ClassVar = {
        "apply_async": "AsyncResult",
        "map_async": "AsyncResult",
        "starmap_async": "AsyncResult",
        "imap": "Iterator",
        "imap_unordered": "Iterator",
    }


class PoolProxy(BasePoolProxy):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._callmethod("terminate")


# ---- the standard types --------------------------------------------------------------------------------


class Namespace:
    """An object for attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if name[:1] != "_")
        return f"{type(self).__name__}({', '.join(shown)})"


class Value:
    """An object for one value."""

    def __init__(self, typecode: str, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        return self._value

    def set(self, value: Any) -> None:
        self._value = value

    value = property(get, set)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"


def Array(typecode: str, sequence: Iterable[Any], lock: bool = True) -> array.array[Any]:
    return array.array(typecode, sequence)


def _make_pool(*args: Any, **kwds: Any) -> Any:
    return fastmp.pool.Pool(*args, **kwds)  # loaded by the first who wants one


class SyncManager(BaseManager):
    """A manager for the types that programs share most; more may be registered with it."""


SyncManager.register("Queue", queue.Queue)
SyncManager.register("JoinableQueue", queue.Queue)
SyncManager.register("Event", threading.Event, EventProxy)
SyncManager.register("Lock", threading.Lock, AcquirerProxy)
SyncManager.register("RLock", threading.RLock, AcquirerProxy)
SyncManager.register("Semaphore", threading.Semaphore, AcquirerProxy)
SyncManager.register("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy)
SyncManager.register("Condition", threading.Condition, ConditionProxy)
SyncManager.register("Barrier", threading.Barrier, BarrierProxy)
SyncManager.register("Pool", _make_pool, PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
SyncManager.register("Value", Value, ValueProxy)
SyncManager.register("Array", Array, ArrayProxy)
SyncManager.register("Namespace", Namespace, NamespaceProxy)
# What methods of the others return.
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)


# ---- results that pickle cannot do by itself -------------------------------------------------------------


def _reduce_array(values: array.array[Any]) -> tuple[Any, ...]:
    return array.array, (values.typecode, values.tobytes())


def _reduce_view(view: Iterable[Any]) -> tuple[Any, ...]:
    return list, (list(view),)


def _dict_views() -> Iterator[type]:
    empty: dict[Any, Any] = {}
    return map(type, (empty.keys(), empty.values(), empty.items()))


reduction.register(array.array, _reduce_array)
for view_type in _dict_views():
    reduction.register(view_type, _reduce_view)
