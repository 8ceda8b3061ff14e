"""The manager of named shared memory: what was made through it is removed when its server ends.

Who asks for a segment makes it, and tells the server its name: there is nothing to be copied. From then on
the server answers for it, in front of the resource tracker, too. So a segment may outlive the process that
asked for it, and none outlives the manager. `shared_memory` is loaded at the first use: a program that has
it has a resource tracker, too.
"""

from __future__ import annotations

import contextlib
from _posixshmem import shm_unlink  # type: ignore[import-not-found]

import fastmp

from .manager import BaseManager
from .server import Server
from .state import State

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar

    from .. import shared_memory
    from ..shared_memory import Item


class SharedMemoryServer(Server):
    """Knows the names of the segments, and removes them in the end."""

    public: ClassVar[tuple[str, ...]] = (*Server.public, "track_segment", "release_segment", "list_segments")

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self._segments: set[str] = set()

    def serve_forever(self) -> None:
        """Serve until stop_event is set, remove the segments, then exit."""
        try:
            super().serve_forever()
        finally:
            with self.mutex:
                for name in self.list_segments(None):
                    self._remove(name)

    def track_segment(self, c: Any, segment_name: str) -> None:
        """Remove this segment in the end."""
        with self.mutex:
            # Should this process be killed.
            fastmp.resource_tracker.register(f"/{segment_name}", "shared_memory")
            self._segments.add(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:
        """Remove this segment now."""
        with self.mutex:
            self._remove(segment_name)

    def list_segments(self, c: Any) -> list[str]:
        """The names of the segments."""
        return sorted(self._segments)

    def _remove(self, name: str) -> None:
        self._segments.remove(name)
        with contextlib.suppress(FileNotFoundError):  # its user has unlinked it
            shm_unlink(f"/{name}")
        fastmp.resource_tracker.unregister(f"/{name}", "shared_memory")


class SharedMemoryManager(BaseManager):
    """Makes named shared memory and lists in it, all of which go when the manager shuts down."""

    _Server = SharedMemoryServer

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:
        """A new segment."""
        self._require_started()
        return self._entrusted(fastmp.shared_memory.SharedMemory(None, create=True, size=size))

    def ShareableList(self, sequence: Iterable[Item]) -> shared_memory.ShareableList:
        """A new list with these values."""
        self._require_started()
        items = fastmp.shared_memory.ShareableList(sequence)
        self._entrusted(items.shm)
        return items

    def _require_started(self) -> None:
        if self._state.value != State.STARTED:
            raise ValueError("the manager's server is not running")

    def _entrusted(self, memory: shared_memory.SharedMemory) -> shared_memory.SharedMemory:
        try:
            memory._disown()  # first: this process and the server may have one tracker
            self._ask("track_segment", (memory.name,))
        except BaseException:
            memory.close()
            memory.unlink()
            raise
        return memory
