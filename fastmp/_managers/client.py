"""The client's side: the connections of a process to the servers of managers.

A Link is to one server: all proxies there share it. Methods are called over a connection for each thread. An
errand (create, incref, decref, ...) has a connection of its own, or the thread's where that is idle and the
server is fastmp's: the standard library's runs none on it.

For a child each link takes a Lease: a connection on which the references of the child's proxies depend.
Before a fork it is for all proxies there are; for a child that is started otherwise it goes along with those
that are pickled for it. The design of references is in `server`.
"""

from __future__ import annotations

import os
import threading
import weakref

from .. import _core, _logging, connection, process, reduction
from .protocol import RemoteError, unwrap
from .server import servers

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar

    from .protocol import Address, Message

    T = TypeVar("T")

    class Proxy(Protocol):
        """What a link knows of the proxies that share it."""

        _id: str
        _authkey: process.AuthenticationString


ERRAND_SECONDS = 5.0  # for errands that nobody asked for: to take and give back references, to end the server

keys: dict[Address, bytes] = {}  # of the servers that this process or its parents know


def get_state() -> dict[Address, process.AuthenticationString]:
    """What a child that is being spawned needs to know: keys."""
    return {address: process.AuthenticationString(key) for address, key in keys.items()}


def set_state(state: dict[Address, process.AuthenticationString]) -> None:
    """In the child: what its parent's get_state() gave."""
    keys.update(state)


def run_errand(
    address: Address,
    authkey: bytes,
    client: Any,
    name: str,
    args: Any = (),
    kwds: Any = {},  # noqa: B006
    unasked: bool = False,
) -> Any:
    """Let a server do something. With `unasked`, give up after about ERRAND_SECONDS."""
    link = _links.get((address, client))
    if link is not None and link.at_hand():
        return unwrap(*link.ask(authkey, None, name, args, kwds, unasked))
    conn, result = _begin_errand(address, authkey, client, name, args, kwds, unasked)
    conn.close()
    return result


def _begin_errand(
    address: Address,
    authkey: bytes,
    client: Any,
    name: str,
    args: Any = (),
    kwds: Any = {},  # noqa: B006
    unasked: bool = False,
) -> tuple[Any, Any]:
    """As run_errand, but for more to be said: the connection is returned with the result."""
    options = {"timeout": ERRAND_SECONDS} if unasked and client is connection.Client else {}
    try:
        conn = client(address, authkey=authkey, **options)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        error.add_note(f"No manager serves at {address!r}: it has ended, or was not started.")
        raise
    try:
        conn.send((None, name, args, kwds))
        if unasked:
            _await_answer(conn, address)
        return conn, unwrap(*conn.recv())
    except BaseException:
        conn.close()
        raise


def _await_answer(conn: Any, address: Address) -> None:
    if not conn.poll(ERRAND_SECONDS):
        raise TimeoutError(f"the manager at {address!r} does not answer")


def _change_over(conn: connection.Connection) -> connection.Connection:
    """Our end of a pipe, which the server sends over the connection that it makes unnecessary."""
    with conn:
        return connection.Connection(reduction.recv_handle(conn))


class _OfThread(threading.local):
    """What one thread has of a link."""

    idle: list[Any] | None = (
        None  # its connection, which is not in there while it is in use; None if it has none
    )
    lease: Lease | None = None  # for the child that it is forking


class Link:
    """The connections of this process to one server: one for each thread that calls methods.

    The proxies of the server share it and are all that holds it; without them the connections close.
    """

    def __init__(self, address: Address, client: Any) -> None:
        self.address = address
        self.client = client
        self.proxies: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()
        self.lease: Lease | None = None  # of this process
        self._is_ours: bool | None = None  # whether the server is fastmp's; None before the first connection
        self._mine = _OfThread()

    def ask(
        self,
        authkey: bytes,
        ident: str | None,
        methodname: str,
        args: Any,
        kwds: Any,
        unasked: bool = False,
    ) -> Message:
        """Send a request and return the answer."""
        idle = self._mine.idle
        if not idle or idle[0].poll(0):  # what there is to read is the end: the server was another one
            idle = self._renew(idle, authkey)
        if kwds or not self._is_ours:
            return self._exchange(idle, (ident, methodname, args, kwds), unasked)
        return self._exchange(idle, (ident, methodname, args), unasked)

    def at_hand(self) -> bool:
        """Whether this thread has a connection that can be used for an errand now."""
        return bool(self._mine.idle) and self._is_ours is True

    def run_errand(self, authkey: bytes, name: str, *args: Any, unasked: bool = False) -> Any:
        """As the function, but directly where this is the server's own process."""
        server = servers.get(self.address)
        if server is not None:
            return getattr(server, name)(None, *args)
        return run_errand(self.address, authkey, self.client, name, args, unasked=unasked)

    def _renew(self, idle: list[Any] | None, authkey: bytes) -> list[Any]:
        """A connection for a thread that has none which it could use."""
        if idle is not None and not idle:
            # A finalizer of the program's asks, in the midst of another request of this thread.
            return [self._connect(authkey)]
        self._mine.idle = None
        idle = self._mine.idle = [self._connect(authkey)]
        return idle

    def _exchange(self, idle: list[Any], request: tuple[Any, ...], unasked: bool) -> Message:
        sent = False
        conn = idle[0]
        try:
            idle.clear()
            conn.send(request)
            sent = True
            if unasked:
                _await_answer(conn, self.address)
            answer: Message = conn.recv()
            idle.append(conn)
            return answer
        except BaseException as e:
            if not sent and isinstance(e, reduction.UNPICKLABLE):
                idle.append(conn)  # nothing of it has gone
                raise
            ended = isinstance(e, EOFError) and conn.poll(0)  # else it is the request's, or the answer's
            # Perhaps the answer is still to come, and would be taken for that to the next request.
            conn.close()
            if self._mine.idle is idle:
                self._mine.idle = None
            if ended:
                raise EOFError(f"the manager at {self.address!r} has ended") from None
            raise

    def _connect(self, authkey: bytes) -> Any:
        name = process.current_process().name
        if threading.current_thread() is not threading.main_thread():
            name += "|" + threading.current_thread().name
        if self._is_ours is not False:
            try:
                conn, shares = self._begin(authkey, "accept_client", name, self._arena())
            except RemoteError:  # the standard library's server has no such function
                self._is_ours = False
            else:
                self._is_ours = True
                if shares:
                    conn = _change_over(conn)
                unwrap(*conn.recv())
                return conn
        conn, _ = self._begin(authkey, "accept_connection", name)
        return conn

    def _begin(self, authkey: bytes, name: str, *args: Any) -> tuple[Any, Any]:
        return _begin_errand(self.address, authkey, self.client, name, args)

    def _arena(self) -> int | None:
        """What the server is to know if it can send us a descriptor, and we can load what it pickles."""
        near = self.client is connection.Client and connection.address_type(self.address) == "AF_UNIX"
        return _core.arena_name() if near else None

    def before_fork(self) -> None:
        """Take a lease for the child."""
        proxies = _living(self.proxies)
        if proxies and self.address not in servers:
            self._mine.lease = self._take_lease(proxies[0]._authkey, [proxy._id for proxy in proxies])

    def lend(self, authkey: bytes, ident: str, kept: dict[Any, Any]) -> Lease | None:
        """A lease for a child that is not forked, with a reference to one object more. `kept` is what is
        kept until that child is launched."""
        if self not in kept:
            kept[self] = self._take_lease(authkey, [ident])
        lease: Lease | None = kept[self]
        return lease if lease is not None and lease.extend(ident) else None

    def adopt(self, lease: Lease, ident: str) -> None:
        """In the child: what the parent lent, by way of the pickle of a proxy."""
        self.lease = lease
        lease.add(ident)

    def _take_lease(self, authkey: bytes, idents: list[str]) -> Lease | None:
        try:
            conn, held = _begin_errand(self.address, authkey, self.client, "lease", (idents,), unasked=True)
        except Exception as e:  # the manager has ended, or knows no leases
            _logging.debug("no lease for a child: %s", e)
            return None
        return Lease(conn, held)

    def after_fork_in_parent(self) -> None:
        """The lease is the child's."""
        lease, self._mine.lease = self._mine.lease, None
        if lease is not None:
            lease.close()

    def after_fork_in_child(self) -> None:
        """The lease is ours; the other connections are the parent's."""
        if self.lease is not None:
            self.lease.close()
        self.lease = self._mine.lease
        self._mine = _OfThread()


class Lease:
    """A connection on which references depend that the parent of this process took for it: one for each
    object, which all proxies of the object share."""

    def __init__(self, conn: Any, idents: list[str]) -> None:
        self._conn = conn
        self._idents = idents
        self._claims: list[str] = []  # an ident for each proxy

    def extend(self, ident: str) -> bool:
        """Take a reference to one object more, unless there is one; False if the object is gone."""
        if ident not in self._idents:
            try:
                self._conn.send([ident])
                _await_answer(self._conn, None)
                self._idents += unwrap(*self._conn.recv())
            except (OSError, EOFError, TimeoutError) as e:
                _logging.debug("no more on a lease: %s", e)
        return ident in self._idents

    def add(self, ident: str) -> None:
        """There is a reference to this object."""
        if ident not in self._idents:
            self._idents.append(ident)

    def claim(self, ident: str) -> bool:
        """Refer to an object by this lease, if it has a reference."""
        if ident not in self._idents:
            return False
        self._claims.append(ident)
        return True

    def give_back(self, ident: str) -> None:
        self._claims.remove(ident)
        if ident in self._claims:
            return
        try:
            self._conn.send(ident)
        except OSError as e:
            _logging.debug("... giving %r back failed: %s", ident, e)

    def close(self) -> None:
        self._conn.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Lease, (self._conn, [])  # more may follow in the same pickle, so each proxy names its own


_links: weakref.WeakValueDictionary[tuple[Address, Any], Link] = weakref.WeakValueDictionary()


def get_link(address: Address, client: Any) -> Link:
    """The link to a server. It is there as long as somebody holds it."""
    link = _links.get((address, client))
    if link is None:
        link = _links[address, client] = Link(address, client)
    return link


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
    for link in _living(_links):
        link.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
