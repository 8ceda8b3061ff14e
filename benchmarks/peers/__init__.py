"""Who is measured: one entry for each library, and for those that are no whole multiprocessing an adapter.

The adapter is the module of that name in this folder. It offers `get_context(method)`, as multiprocessing
does, and of the context that much as it says here: a row takes the peers that do what it `needs`. What
the rows need besides, processes and pipes, adapters get from the standard library.
"""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import Row

SCRIPTS = Path(sys.executable).parent
POOL = frozenset({"Pool.apply", "Pool.map", "Pool.imap", "Pool.starmap"})


@dataclass(frozen=True)
class Peer:
    name: str  # the column
    module: str  # what has to be installed
    adapter: str = ""
    does: frozenset[str] = frozenset()  # with an adapter: what a row may need
    without: frozenset[str] = frozenset()  # names of rows that it cannot do
    launcher: str = ""  # the program that starts the measuring processes, two of them

    def installed(self) -> bool:
        launcher = not self.launcher or (SCRIPTS / self.launcher).exists()
        return launcher and importlib.util.find_spec(self.module) is not None

    def can(self, row: Row) -> bool:
        return row.name not in self.without and (not self.adapter or row.needs in self.does)

    @property
    def provider(self) -> str:
        """The module with its get_context."""
        return self.adapter or self.module

    def context(self, method: str) -> Any:
        return importlib.import_module(self.provider).get_context(method)

    def command(self) -> list[str]:
        return [str(SCRIPTS / self.launcher), "-n", "2"] if self.launcher else []


PEERS = {
    peer.name: peer
    for peer in (
        Peer("stdlib", "multiprocessing"),  # the first is what the others are compared with
        Peer("fastmp", "fastmp"),
        Peer("billiard", "billiard"),
        Peer("multiprocess", "multiprocess"),
        Peer("concurrent.futures", "concurrent.futures", "peers.executor_stdlib", POOL),
        Peer("loky", "loky", "peers.executor_loky", POOL),
        Peer("joblib", "joblib", "peers.parallel_joblib", POOL - {"Pool.apply"}),
        Peer("mpire", "mpire", "peers.pool_mpire", POOL),
        Peer("pebble", "pebble", "peers.executor_pebble", POOL),
        Peer("faster-fifo", "faster_fifo", "peers.queue_faster_fifo", frozenset({"Queue"})),
        Peer("posix_ipc", "posix_ipc", "peers.semaphore_posix_ipc", frozenset({"Semaphore"})),
        Peer(
            "mpi4py",
            "mpi4py",
            "peers.pipe_mpi4py",
            frozenset({"Pipe"}),
            without=frozenset({"Pipe, a first 100 packets there and back"}),  # its ranks meet only once
            launcher="mpiexec",
        ),
    )
}
