"""The manager: starts a server process, or finds one, and makes proxies of the objects in it.

The server process ends when it is told to, by the manager's finalizer at the latest, and when its parent has
ended in whatever way. It is told over the sockets over which it said at its start that it is ready: who has
them need prove nothing. They are no Pipe(): only the kernel is in common with a server that may be stopped.
"""

from __future__ import annotations

import contextlib
import signal

import fastmp

from .. import _logging, connection, process
from .._core import ProcessError
from .._finalize import Finalize
from .._spawning import assert_spawning
from . import client
from .client import keys, run_errand
from .protocol import Token, listener_client
from .proxy import AutoProxy, take_over
from .server import Server
from .state import State

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar, Self

    from .protocol import Address
    from .server import Registry


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
        control, writer = connection.stream_pipe()
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
        try:
            self._await_server(child, control, writer)
            self._begin()
            self.shutdown = Finalize(
                self,
                self._finalize_manager,
                args=(child, self._address, control, self._state, self._shutdown_timeout),
                exitpriority=0,
            )
        except BaseException:  # perhaps by a signal handler: nobody would end the server
            if child.pid is not None:
                self._finalize_manager(child, self._address, control, State(), self._shutdown_timeout)
            control.close()
            self._process, self._state = None, State()
            raise

    def _await_server(
        self, child: process.BaseProcess, control: connection.Connection, writer: connection.Connection
    ) -> None:
        """Start the server process and learn its address."""
        with writer:
            child.start()
        try:
            self._address = control.recv()
        except EOFError:
            child.join()
            message = f"{child.name} ended before it was ready, with exit code {child.exitcode}"
            raise EOFError(message) from None
        self._process = child

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
        parent = process.parent_process()
        assert parent is not None
        server.belong_to(parent, writer)
        writer.send(server.address)
        server.serve_forever()

    @staticmethod
    def _finalize_manager(
        child: process.BaseProcess,
        address: Address,
        control: connection.Connection,
        state: State,
        shutdown_timeout: float,
    ) -> None:
        """End the server process: ask it, then tell it."""
        if child.is_alive():
            _logging.info("sending shutdown message to manager")
            with control, contextlib.suppress(EOFError, OSError):
                control.send("shutdown")
                control.poll(client.ERRAND_SECONDS)
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
        keys.pop(address, None)

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
            return take_over(
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
        return run_errand(self._address, self._authkey, self._Client, name, args, kwds)

    def _begin(self) -> None:
        self._state.value = State.STARTED
        keys[self._address] = self._authkey

    def _require_initial(self) -> None:
        if self._state.value == State.STARTED:
            raise ProcessError("Already started server")
        if self._state.value == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")

    def __reduce__(self) -> tuple[Any, ...]:
        """For a child, where it is connected, too. It is this process that ends the server."""
        assert_spawning(self)
        state = {**self.__dict__, "_process": None}
        state.pop("shutdown", None)
        return object.__new__, (type(self),), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._state.value == State.STARTED:
            keys[self._address] = self._authkey

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
