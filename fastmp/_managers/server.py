"""The server: it holds the objects of a manager and calls their methods for the clients.

One thread accepts connections. Each then has a thread of its own, which asks for the key first. What comes
over it is one errand, that is, a call of a function of the server (Server.public). Or it begins with
accept_connection, and calls of methods follow until the client leaves, and errands between them. No signal
handler runs in such a thread: whatever is raised while a request is loaded, carried out or answered, even
SystemExit, is the request's own, and goes to the client.

An object lives while it is referred to. References are counted here:
- each proxy is one, but for those in the server's own process, as in a managed list. They hold the object
  itself, so that the garbage collector finds objects that refer to each other.
- for a child the parent takes a lease: a connection that stands for a reference to each object that the child
  has proxies of. The child may give them back one by one; what is left goes when the connection does, at the
  latest with the child. So the parent's proxies may be gone before the child has run a line, and a child that
  is killed leaves nothing behind. A server that knows no leases gets the references counted by the child.
- any other pickle of a proxy is one, under a ticket, for the proxy may be gone before the pickle is loaded.
  The first that loads it redeems the ticket, that is, takes the reference over. Tickets that went out with
  an answer are void once the client asks the next question: it has loaded the answer by then.
Idents are random, so one that outlived its object, or the server, never means another object.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import socket
import sys
import threading
import traceback
import types
import weakref

from .. import _core, _logging, _threads, connection, process, reduction
from .._core import AuthenticationError
from .protocol import Token, Unloadable, error_message, listener_client, receive

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, TypeAlias, TypeVar

    from .protocol import Address, Message

    # how to make the object, the names it exposes, typeids of what methods return, how to make the proxy
    Registered: TypeAlias = tuple[Any, Any, Any, Any]
    Registry: TypeAlias = dict[str, Registered]
    Key = TypeVar("Key")
    Weak: TypeAlias = weakref.WeakValueDictionary[Key, "Entry"]

BACKLOG = MOST_GUESTS = 128

servers: dict[Address, Server] = {}  # those that run in this process


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


class Entry:
    """An object, with what may be done with it."""

    __slots__ = ("__weakref__", "exposed", "ident", "method_to_typeid", "obj")

    def __init__(self, obj: Any) -> None:
        self.obj = obj
        self.ident = secrets.token_hex(8)
        self.exposed: set[str] = set()
        self.method_to_typeid: Mapping[str, str] | None = None


def _make_pipe() -> tuple[connection.Connection, connection.Connection] | None:
    try:
        return connection.Pipe()
    except (OSError, MemoryError):  # there are no descriptors left, or no memory; the socket will do
        return None


class _Issuing(threading.local):
    """The tickets in the answer that a thread is sending; None while it sends none."""

    tickets: list[str] | None = None


class Server:
    """Holds the objects and serves those who know the key, each connection in a thread of its own."""

    public: ClassVar[tuple[str, ...]] = (
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
    conversations = ("accept_client", "accept_connection", "lease")

    def __init__(self, registry: Registry, address: Address, authkey: bytes, serializer: str) -> None:
        if not isinstance(authkey, bytes):
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        make_listener, _ = listener_client[serializer]
        self.listener = make_listener(address=address, backlog=BACKLOG, authkey=self.authkey)
        self.address = self.listener.address
        self.stop_event = _StopEvent()
        self._control: connection.Connection | None = None  # of the manager that started this process
        self._ends: list[Any] = [self.stop_event]  # the server ends when one of them is readable
        self.mutex = threading.RLock()
        self.id_to_obj: dict[str, Entry] = {}  # those that a reference is counted to
        self.id_to_refcount: dict[str, int] = {}
        self._entries: Weak[str] = weakref.WeakValueDictionary()  # all that exist
        self._entry_of: Weak[int] = weakref.WeakValueDictionary()  # by the id() of the object
        self._tickets: dict[str, str] = {}  # the ident of the reference that each stands for
        self._issuing = _Issuing()
        self._guests: dict[socket.socket, None] = {}  # clients that have not proved to know the key
        self._connections: set[Any] = set()
        self._ending = False

    # -- the life of the server

    def serve_forever(self) -> None:
        """Serve until stop_event is set, then exit."""
        servers[self.address] = self
        try:
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                self._accept_clients()
        finally:
            servers.pop(self.address, None)
            self.listener.close()
            self.stop_event.set()
            self.stop_event.close()
        sys.exit(0)

    def belong_to(self, parent: process.BaseProcess, control: connection.Connection) -> None:
        """Shut down when told over `control`, and end with that process."""
        self._control = control
        self._ends.append(control)
        try:
            self._ends.append(parent.sentinel)
        except OSError:  # no pidfd is to be had
            threading.Thread(target=self._end_with, args=(parent,), daemon=True).start()

    def _end_with(self, parent: process.BaseProcess) -> None:
        try:
            parent.join()
        finally:
            self.stop_event.set()

    def _accept_clients(self) -> None:
        while not self.stop_event.is_set():
            try:
                ready = connection.wait([self.listener, *self._ends])
            except MemoryError:
                _threads.pause()
                continue
            if ready == [self.listener]:
                self._accept_client()
            elif self._control is None or self._control not in ready:
                break
            else:
                self._obey(self._control)

    def _obey(self, control: connection.Connection) -> None:
        try:
            control.recv()
            self._send(control, self.perform(None, "shutdown"))
        except (EOFError, OSError):  # there is nobody left who could tell us
            self.stop_event.set()

    def _accept_client(self) -> None:
        try:
            sock = self.listener.accept_one()
        except (OSError, MemoryError):  # mostly for want of descriptors
            _threads.pause()
            return
        if sock is None:
            return
        for guest in list(self._guests)[
            : len(self._guests) + 1 - MOST_GUESTS
        ]:  # the oldest, if there are too many
            with contextlib.suppress(OSError):  # meanwhile it is known, or gone
                guest.shutdown(socket.SHUT_RDWR)
        try:
            threading.Thread(target=self.handle_request, args=(sock,), daemon=True).start()
        except (RuntimeError, MemoryError):  # there are too many threads
            sock.close()

    def handle_request(self, sock: socket.socket) -> None:
        """Serve one client until it leaves: an errand, or calls of methods."""
        self._guests[sock] = None
        try:
            conn = self.listener.receive(sock)
        except (AuthenticationError, EOFError, OSError) as e:
            _logging.debug("a client was refused: %r", e)
            return
        finally:
            del self._guests[sock]
        self._connections.add(conn)
        try:
            self._run_errand(conn)
        except (EOFError, OSError) as e:
            _logging.debug("the connection to a client is lost: %r", e)
        finally:
            self._connections.discard(conn)
            conn.close()

    def _run_errand(self, conn: Any) -> None:
        try:
            _, name, args, kwds = receive(conn)
        except (Unloadable, TypeError, ValueError) as e:
            self._send(conn, ("#TRACEBACK", str(e)))
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

    def accept_client(self, c: Any, name: str, arena: int | None) -> None:
        """As accept_connection, for a client of ours. If it shares our memory it gets a pipe to call over."""
        pipe = _make_pipe() if arena == _core.arena_name() else None
        c.send(("#RETURN", pipe is not None))
        if pipe is None:
            self.accept_connection(c, name)
            return
        ours, theirs = pipe
        self._connections.add(ours)
        try:
            with theirs:
                reduction.send_handle(c, theirs._descriptor(), None)
            c.close()
            self.accept_connection(ours, name)
        finally:
            self._connections.discard(ours)
            ours.close()

    def serve_client(self, conn: Any) -> None:
        """Answer calls until the client leaves. Only then does EOFError end the loop."""
        issued: list[str] = []
        try:
            while not self.stop_event.is_set():
                answer = self._answer(conn)
                if issued:
                    self.void(issued)
                issued = self._send(conn, answer)
        finally:
            self.void(issued)

    def _answer(self, conn: Any) -> Message:
        try:
            request = receive(conn)
        except Unloadable as e:
            return "#TRACEBACK", str(e)
        try:
            return self.perform(*request)
        except BaseException:  # it is no request
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
            entry = self.id_to_obj.get(ident) or self.find(ident)
            if methodname in entry.exposed:
                function = getattr(entry.obj, methodname)
            else:
                function = self._fallback(entry, methodname)
        except Exception:
            return "#TRACEBACK", traceback.format_exc()
        try:
            result = function(*args, **kwds)
            typeid = entry.method_to_typeid and entry.method_to_typeid.get(methodname)
            if not typeid:
                return "#RETURN", result
            new_ident, new_exposed = self.create(None, typeid, result)
            return "#PROXY", (new_exposed, Token(typeid, self.address, new_ident))
        except Exception as e:
            return error_message(e)
        except BaseException:  # sys.exit() in a method is not meant for the client
            return "#TRACEBACK", traceback.format_exc()

    fallback_mapping: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "__str__": str,
        "__repr__": repr,
        "#GETVALUE": lambda obj: obj,
    }

    def _fallback(self, entry: Entry, methodname: str) -> Any:
        """What every object can do, whatever it exposes."""
        if methodname in self.fallback_mapping:
            return types.MethodType(self.fallback_mapping[methodname], entry.obj)
        raise AttributeError(
            f"method {methodname!r} of {type(entry.obj)!r} object is not in exposed={entry.exposed!r}"
        )

    def _perform_errand(self, name: str, args: Any, kwds: Any) -> Message:
        try:
            if name not in self.public:
                raise AttributeError(f"{name!r} is not a function of the server")
            return "#RETURN", getattr(self, name)(None, *args, **kwds)
        except BaseException:
            return "#TRACEBACK", traceback.format_exc()

    def _send(self, conn: Any, answer: Message) -> list[str]:
        """Send an answer. The tickets of the proxies in it, which are void after the next request."""
        issued: list[str] = []
        if type(answer[1]) not in reduction.SCALARS:  # there may be proxies in it
            self._issuing.tickets = issued
        try:
            conn.send(answer)
        except BaseException:  # if it was the connection that failed it fails again
            conn.send(("#UNSERIALIZABLE", traceback.format_exc()))
        finally:
            self._issuing.tickets = None
        if self._ending:
            self.stop_event.set()
        return issued

    def void(self, tickets: list[str]) -> None:
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
            entry = self._entry_of.get(id(obj)) or self._enter(obj)
            entry.exposed, entry.method_to_typeid = names, method_to_typeid
            ident = entry.ident
            self.incref(c, ident)
        _logging.debug("%r callable returned object with id %r", typeid, ident)
        return ident, tuple(names)

    def incref(self, c: Any, ident: str) -> None:
        """One more refers to an object."""
        with self.mutex:
            self.id_to_obj[ident] = self.find(ident)
            self.id_to_refcount[ident] = self.id_to_refcount.get(ident, 0) + 1

    def decref(self, c: Any, ident: str) -> None:
        """One less refers to an object; the last one takes it along."""
        with self.mutex:
            entry = self.find(ident)
            self.id_to_refcount[ident] -= 1
            if self.id_to_refcount[ident]:
                return
            del self.id_to_refcount[ident], self.id_to_obj[ident]
        _logging.debug("disposing of obj with id %r", ident)
        del entry  # outside the mutex: what goes with the object may take long

    def hold(self, c: Any, ident: str) -> str:
        """A reference for a pickle: the ticket of which it carries."""
        ticket = secrets.token_hex(8)
        with self.mutex:
            self.incref(c, ident)
            self._tickets[ticket] = ident
        if self._issuing.tickets is not None:
            self._issuing.tickets.append(ticket)
        return ticket

    def redeem(self, c: Any, ident: str, ticket: str) -> None:
        """A reference for who loads a pickle: the pickle's own, unless another has had that."""
        with self.mutex:
            if self._tickets.pop(ticket, None) is None:
                self.incref(c, ident)

    def lease(self, c: Any, idents: list[str]) -> None:
        """References for a process: one to each object that is there. It asks for more with a list, gives one
        back with an ident, and all when it leaves."""
        held: list[str] = []
        message: list[str] | str = idents
        try:
            while not self.stop_event.is_set():
                if isinstance(message, list):
                    c.send(("#RETURN", self._lend(held, message)))
                elif message in held:
                    held.remove(message)
                    self.decref(c, message)
                message = c.recv()
        finally:
            for ident in held:
                self.decref(c, ident)

    def _lend(self, held: list[str], idents: list[str]) -> list[str]:
        with self.mutex:
            granted = [ident for ident in dict.fromkeys(idents) if ident in self._entries]
            for ident in granted:
                self.incref(None, ident)
                held.append(ident)
        return granted

    def get_methods(self, c: Any, token: Token) -> tuple[str, ...]:
        """The names that an object exposes."""
        return tuple(self.find(token.id).exposed)

    def number_of_objects(self, c: Any) -> int:
        """How many objects there are."""
        if len(self._entries) > len(self.id_to_refcount):
            gc.collect()  # some may only refer to each other
        return len(self._entries)

    def debug_info(self, c: Any) -> str:
        """A text that lists the objects."""
        with self.mutex:
            return "\n".join(
                f"  {ident}:       refcount={self.id_to_refcount.get(ident, 0)}\n    {str(entry.obj)[:75]}"
                for ident, entry in sorted(self._entries.items())
            )

    def dummy(self, c: Any) -> None:
        """Nothing: a client sees whether the server is there."""

    def shutdown(self, c: Any) -> None:
        """The server ends once this has been answered."""
        _logging.debug("manager received shutdown message")
        self._ending = True

    def _enter(self, obj: Any) -> Entry:
        entry = Entry(obj)
        self._entries[entry.ident] = self._entry_of[id(obj)] = entry
        return entry

    def find(self, ident: str) -> Entry:
        """The object, which exists as long as this is kept."""
        try:
            return self._entries[ident]
        except KeyError:
            raise KeyError(f"the manager at {self.address!r} has no object {ident!r} (any more)") from None


def _after_fork_in_child() -> None:
    for server in servers.values():
        server.after_fork()
    servers.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
