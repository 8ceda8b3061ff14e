"""python no_memory.py STRIDE: the k-th allocation fails that a pool's supervisor makes after its workers were
killed, for k = 1, 1 + STRIDE, ... until there are no more. Whoever waits for the pool must hear of it each
time.

A program, for the allocator that fails is that of the whole process. So while it may fail, others wait."""

import _testcapi
import itertools
import os
import signal
import sys
import threading

from targets import DEADLINE

import fastmp
from fastmp._pool.pool import Pool


class Poor(Pool):
    k = 0  # not yet

    def _attend(self):
        if self.k == 0 or all(w.exitcode is None for w in self._pool):
            return super()._attend()
        k, self.k = self.k, 0
        _testcapi.set_nomemory(k, k + 1)
        try:
            return super()._attend()
        finally:
            self.had_enough = had_enough(k)
            _testcapi.remove_mem_hooks()
            os.write(self.attends, b"x")


def had_enough(k):
    """Is the k-th allocation still to come?"""
    try:
        for _ in range(k):
            bytes(1000)
    except MemoryError:
        return True
    return False


def begin_and_wait(begun, end):
    os.write(begun, b"x")
    os.read(end, 1)


def in_time(k, function, *args):
    """What it returns or raises."""
    outcome = []

    def run():
        try:
            outcome.append(function(*args))
        except Exception as e:
            outcome.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert outcome, f"allocation {k}: nobody hears of it"
    return outcome[0]


def check(k):
    """False if so many allocations were not made."""
    (begun, begins), (end, _), (attended, attends) = pipes = [os.pipe() for _ in range(3)]
    pool = Poor(2, context=fastmp.get_context("fork"))
    pool.attends = attends
    results = [pool.apply_async(begin_and_wait, (begins, end)) for _ in range(2)]
    for _ in results:
        os.read(begun, 1)
    pool.k = k
    for worker in list(pool._pool):
        os.kill(worker.pid, signal.SIGKILL)
    os.read(attended, 1)
    for result in results:
        assert isinstance(in_time(k, result.get), Exception)
    after = in_time(k, pool.apply, abs, (-3,))
    assert after == 3 or isinstance(after, Exception)
    pool.terminate()
    in_time(k, pool.join)
    for fd in itertools.chain.from_iterable(pipes):
        os.close(fd)
    return not pool.had_enough


if __name__ == "__main__":
    stride = int(sys.argv[1])
    k = 1
    while check(k):
        k += stride
    assert k > 20, "that was no burial"
    print("ok", k)
    os._exit(0)  # the children of children that had no memory are none of ours
