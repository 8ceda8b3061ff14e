"""loky. It starts processes in its own way only, as expensive as spawn."""

from loky import ProcessPoolExecutor

from peers.executor import ExecutorPool


class Context:
    def __init__(self, method: str) -> None:
        pass

    def Pool(self, workers: int) -> ExecutorPool:
        return ExecutorPool(ProcessPoolExecutor(workers))


get_context = Context
