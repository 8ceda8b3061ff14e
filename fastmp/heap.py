"""Shared memory by the piece, under the names that libraries import. The C core is what allocates it."""

from __future__ import annotations

from ._core import Block

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["Arena", "BufferWrapper", "Heap"]


class BufferWrapper(Block):
    """Zeroed shared memory of `size` bytes."""

    _heap: ClassVar[Heap]

    def create_memoryview(self) -> memoryview:
        """The memory as bytes that can be written."""
        return memoryview(self)


class Arena(BufferWrapper):
    """A piece to cut up by oneself. All pieces lie in the one arena of the program."""

    @property
    def buffer(self) -> memoryview:
        """The memory."""
        return self.create_memoryview()


class Heap:
    """Where pieces come from. They go back by themselves, when no process has them any more."""

    def __init__(self, size: int = 4096) -> None:
        """The size is of no account: pieces come from the program's arena."""

    def malloc(self, size: int) -> Arena:
        """A piece of `size` bytes."""
        return Arena(size)

    def free(self, block: Arena) -> None:
        """Nothing to do: the piece goes with its last reference."""


BufferWrapper._heap = Heap()
