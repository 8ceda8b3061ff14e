"""Proxies: what stands for an object in a server, in the processes that use it.

Each proxy is a reference to the object (see `server`), given back by its finalizer. It gets that by one of:
- incref, where there is none yet.
- take_over, where the object came with one: it was created for this proxy, or a method returned it.
- redeem, where the proxy is loaded from a pickle that has a ticket.
- a claim to the lease of the process, where it was there before the fork, or was among the child's arguments.

In the process of its own server a proxy calls directly, without a connection, and holds the object itself.
So proxies may be put into managed objects, and go away with them.
"""

from __future__ import annotations

import importlib
import os
import threading

from .. import _logging, process, reduction
from .._finalize import Finalize, register_after_fork
from .._spawning import get_spawning_popen
from .client import Lease, get_link, keys, run_errand
from .protocol import RemoteError, listener_client, unwrap
from .server import servers
from .state import State

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar, Protocol, TypeVar

    from .client import Link
    from .protocol import Address, Token
    from .server import Entry, Registry, Server

    ProxyClass = TypeVar("ProxyClass", bound="type[BaseProxy]")

    class Manager(Protocol):
        """What a proxy asks of its manager."""

        _authkey: process.AuthenticationString
        _state: State


_claims = threading.local()  # .tickets: idents of references that are there already, see BaseProxy._incref
TAKEN_OVER = ""  # in place of a ticket: the reference needs no redeeming


class BaseProxy:
    """Stands for an object in a server; subclasses call the object's methods by `_callmethod`.

    A call that is interrupted here, by Ctrl-C or by what a signal handler raises, goes on in the server: what
    a queue's get() takes then is lost, a lock that it acquires is held, an object that it makes stays until
    the manager ends. Its answer is never taken for that of another call: the connection over which it would
    come is closed, and the next call makes a new one.
    """

    _exposed_: ClassVar[tuple[str, ...]]
    _method_to_typeid_: ClassVar[Mapping[str, str] | None] = None
    _isauto = False

    def __init__(
        self,
        token: Token,
        serializer: str,
        manager: Manager | None = None,
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
        keys.setdefault(token.address, self._authkey)
        self._link = get_link(token.address, self._Client)
        self._entry: Entry | None = None  # the object, in the server's own process
        self._ticket: str | None = None  # of the pickle it was loaded from, if it has no reference yet
        self._reference: tuple[int, Callable[..., None], Any] = (0, _nothing, ())  # whose, how it goes
        if incref:
            self._incref()
        self._link.proxies[id(self)] = self  # by id(): what proxies forward may include __hash__
        register_after_fork(self, BaseProxy._after_fork)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006
        """Call a method of the object. Its result, or a proxy for it; or what it raised is raised."""
        server = servers.get(self._token.address) if servers else None
        if server is None:
            kind, result = self._link.ask(self._authkey, self._id, methodname, args, kwds)
            if kind == "#RETURN":
                return result
        else:
            kind, result = server.perform(self._id, methodname, args, kwds)
            if kind == "#RETURN":
                result = reduction.loads(reduction.dumps(result))  # a copy, as everybody gets
        try:
            return self._make_proxy(*result) if kind == "#PROXY" else unwrap(kind, result)
        finally:
            del result  # as in unwrap

    def _getvalue(self) -> Any:
        """A copy of the object."""
        return self._callmethod("#GETVALUE")

    def _make_proxy(self, exposed: tuple[str, ...], token: Token) -> Any:
        token.address = self._token.address  # the server may have another name for it
        proxytype = self._registry().get(token.typeid, (AutoProxy,))[-1]
        proxy = take_over(
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
        server = servers.get(self._token.address)
        if server is not None:
            self._entry = self._entry_in(server, ticket)
            return
        if ticket is None:
            self._link.run_errand(self._authkey, "incref", self._id)
        elif ticket != TAKEN_OVER:
            self._link.run_errand(self._authkey, "redeem", self._id, ticket)
        state = self._manager._state if self._manager is not None else None
        self._refer(BaseProxy._decref, self._token, self._authkey, state, self._link)

    def _entry_in(self, server: Server, ticket: str | None) -> Entry:
        """The object, in the server's own process. A reference that is there already is given back."""
        entry = server.find(self._id)
        if ticket == TAKEN_OVER:
            server.decref(None, self._id)
        elif ticket is not None:
            server.void([ticket])
        return entry

    def _refer(self, give_back: Callable[..., None], *args: Any) -> None:
        """There is a reference. `give_back(*args)` is to be called when this proxy dies."""
        self._reference = os.getpid(), give_back, args
        self._close = Finalize(self, give_back, args=args, exitpriority=10)

    @staticmethod
    def _decref(token: Token, authkey: bytes, state: State | None, link: Link) -> None:
        if state is not None and state.value != State.STARTED:
            _logging.debug("DECREF %r -- manager already shutdown", token.id)
            return
        try:
            _logging.debug("DECREF %r", token.id)
            link.run_errand(authkey, "decref", token.id, unasked=True)
        except Exception as e:
            _logging.debug("... decref failed: %s", e)

    def _after_fork(self) -> None:
        self._manager = None
        pid, give_back, args = self._reference
        if pid == os.getpid():  # it came with the child's arguments; but all finalizers were dropped since
            self._refer(give_back, *args)
        else:
            self._inherit()

    def _inherit(self) -> None:
        """Get the reference that a child's proxy is."""
        self._entry = None  # if its parent is the server
        lease = self._link.lease
        if lease is not None and lease.claim(self._id):
            self._refer(lease.give_back, self._id)
            return
        try:
            self._incref()
        except Exception as e:  # the manager may have ended, and nobody need use this proxy here
            _logging.info("incref failed: %s", e)

    def _come_along(self, held: Lease | str | None) -> None:
        """In a new child: be one of its arguments, for which `held` stands."""
        if isinstance(held, Lease):
            self._link.adopt(held, self._id)
        else:
            self._ticket = held
        self._inherit()

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

    def _hold(self) -> Lease | str | None:
        kept = getattr(get_spawning_popen(), "kept", None)
        if kept is not None:
            return self._link.lend(self._authkey, self._id, kept)
        try:
            ticket: str = self._link.run_errand(self._authkey, "hold", self._id)
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


def _nothing() -> None:
    """How a proxy without a reference gives it back."""


def _find_key(address: Address, manager: Manager | None, authkey: bytes | None) -> bytes:
    if authkey is not None:
        return authkey
    if manager is not None:
        return manager._authkey
    return keys.get(address) or process.current_process().authkey


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
    ticket: Lease | str | None = None,
    manager_class: tuple[str, str] | None = None,
) -> Any:
    """Load a proxy, with a reference of its own. One among the arguments of a new child may come to nothing,
    for the manager may have ended, and nobody need use it."""
    if not kwds.pop("incref", True):
        proxy = func(token, serializer, incref=False, **kwds)
    elif getattr(process.current_process(), "_inheriting", False):
        proxy = func(token, serializer, incref=False, **kwds)
        if isinstance(proxy, BaseProxy):
            proxy._come_along(ticket)
    elif isinstance(ticket, str):
        kwds.setdefault("authkey", _find_key(token.address, None, None))
        proxy = take_over(func, token, serializer, ticket=ticket, incref=True, **kwds)
    else:
        proxy = func(token, serializer, incref=True, **kwds)
    if isinstance(proxy, BaseProxy) and manager_class is not None:
        proxy._manager_class = manager_class
    return proxy


def take_over(
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
            run_errand(token.address, authkey, client, "decref", (token.id,))


def forwarding(cls: ProxyClass) -> ProxyClass:
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
        body = {"_exposed_": exposed, "__module__": BaseProxy.__module__}
        made = _made_types[name, exposed] = forwarding(type(name, (BaseProxy,), body))
    return made


def AutoProxy(
    token: Token,
    serializer: str,
    manager: Manager | None = None,
    authkey: bytes | None = None,
    exposed: Iterable[str] | None = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> BaseProxy:
    """A proxy with the methods that the object exposes."""
    authkey = _find_key(token.address, manager, authkey)
    if exposed is None:
        client = listener_client[serializer][1]
        exposed = run_errand(token.address, authkey, client, "get_methods", (token,))
    proxytype = MakeProxyType(f"AutoProxy[{token.typeid}]", sorted(exposed))
    proxy = proxytype(
        token, serializer, manager=manager, authkey=authkey, incref=incref, manager_owned=manager_owned
    )
    proxy._isauto = True
    return proxy
