"""Managers: objects that live in a server process, and the proxies through which others use them.

    process of a user                                     process of the manager
    proxy --- one connection for each thread ------------> thread: serve_client, calls the methods
    proxy --- a connection for each errand --------------> thread: create, incref, decref, ...

Here are the names that users and libraries know. What they stand for is in `_managers`, and the design with
it: messages in protocol, objects and references to them in server, connections in client, proxies in proxy.
"""

from ._managers.client import get_state as get_state
from ._managers.client import set_state as set_state
from ._managers.manager import BaseManager
from ._managers.protocol import RemoteError as RemoteError
from ._managers.protocol import Token
from ._managers.protocol import convert_to_error as convert_to_error
from ._managers.protocol import dispatch as dispatch
from ._managers.protocol import listener_client as listener_client
from ._managers.proxies import AcquirerProxy as AcquirerProxy
from ._managers.proxies import ArrayProxy as ArrayProxy
from ._managers.proxies import BarrierProxy as BarrierProxy
from ._managers.proxies import BaseListProxy as BaseListProxy
from ._managers.proxies import BasePoolProxy as BasePoolProxy
from ._managers.proxies import ConditionProxy as ConditionProxy
from ._managers.proxies import DictProxy as DictProxy
from ._managers.proxies import EventProxy as EventProxy
from ._managers.proxies import IteratorProxy as IteratorProxy
from ._managers.proxies import ListProxy as ListProxy
from ._managers.proxies import NamespaceProxy as NamespaceProxy
from ._managers.proxies import PoolProxy as PoolProxy
from ._managers.proxies import SetProxy as SetProxy
from ._managers.proxies import ValueProxy as ValueProxy
from ._managers.proxies import _BaseDictProxy as _BaseDictProxy
from ._managers.proxies import _BaseSetProxy as _BaseSetProxy
from ._managers.proxy import AutoProxy as AutoProxy
from ._managers.proxy import BaseProxy
from ._managers.proxy import MakeProxyType as MakeProxyType
from ._managers.proxy import RebuildProxy as RebuildProxy
from ._managers.server import Server as Server
from ._managers.server import all_methods as all_methods
from ._managers.server import public_methods as public_methods
from ._managers.shared import SharedMemoryManager
from ._managers.shared import SharedMemoryServer as SharedMemoryServer
from ._managers.state import State as State
from ._managers.sync import SyncManager
from ._managers.values import Array as Array
from ._managers.values import Namespace as Namespace
from ._managers.values import Value as Value

HAS_SHMEM = True

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

# They say that they are from here, and are pickled so.
for _known in list(globals().values()):
    if getattr(_known, "__module__", "").startswith(f"{__package__}._managers."):
        _known.__module__ = __name__
