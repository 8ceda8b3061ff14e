"""posix_ipc: named semaphores, whose names are taken away as soon as they are open."""

import multiprocessing
from typing import Any

import posix_ipc


class Context:
    def __init__(self, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self.Pipe, self.Process = context.Pipe, context.Process

    def Semaphore(self, value: int) -> Any:
        semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=value)
        semaphore.unlink()
        return semaphore


get_context = Context
