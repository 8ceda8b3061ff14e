"""concurrent.futures."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from peers.executor import ExecutorPool


class Context:
    def __init__(self, method: str) -> None:
        self.method = method

    def Pool(self, workers: int) -> ExecutorPool:
        context = multiprocessing.get_context(self.method)
        return ExecutorPool(ProcessPoolExecutor(workers, mp_context=context))


get_context = Context
