"""A tour of fastmp: one program, many processes, everything visible.

    python examples/tour.py

It is written as for multiprocessing; only the name of the import differs.
"""

import os
import sys
import time

import fastmp
from fastmp import Array, Barrier, Event, JoinableQueue, Lock, Manager, Pipe, Pool, Process, Queue, Value


def say(text):
    """One write for the whole line, so that lines of different processes do not mix."""
    sys.stdout.write(f"{fastmp.current_process().name:>18}  {text}\n")
    sys.stdout.flush()


class Consumer(Process):
    """Takes tasks until it gets None."""

    def __init__(self, tasks, results):
        super().__init__()
        self.tasks = tasks
        self.results = results

    def run(self):
        while (number := self.tasks.get()) is not None:
            say(f"{number} * {number}")
            time.sleep(0.02)  # some work, else one consumer would do it all before the others have begun
            self.results.put((number, number * number))
            self.tasks.task_done()
        self.tasks.task_done()


def consumers_of_a_queue():
    tasks, results = JoinableQueue(), Queue()
    consumers = [Consumer(tasks, results) for _ in range(3)]
    for consumer in consumers:
        consumer.start()
    for number in range(6):
        tasks.put(number)
    for _ in consumers:
        tasks.put(None)
    tasks.join()
    for consumer in consumers:
        consumer.join()
    say(f"results, {results.qsize()} of them: {sorted(results.get() for _ in range(results.qsize()))}")


def answer(pipe, not_mine):
    not_mine.close()  # a forked child has the parent's end too, and would wait for itself
    try:
        while True:
            pipe.send(pipe.recv().upper())
    except EOFError:
        say("the other side has closed")


def pipe_to_a_child():
    here, there = Pipe()
    child = Process(target=answer, args=(there, here), name="answerer")
    child.start()
    there.close()
    with here:
        for word in "shared", "memory", "arena":
            here.send(word)
            say(f"{word} -> {here.recv()}")
    child.join()


def meet(barrier, lock, total, squares, index):
    barrier.wait()
    squares[index] *= squares[index]
    with lock:
        total.value += 1


def shared_memory_and_a_barrier():
    squares, total, lock = Array("i", range(5)), Value("i", 0), Lock()
    barrier = Barrier(5)
    children = [Process(target=meet, args=(barrier, lock, total, squares, i)) for i in range(5)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    say(f"{total.value} processes met and left {squares[:]}")


def work(seconds):
    time.sleep(seconds)
    return seconds


def crash(_):
    os.abort()


def pool_of_workers():
    with Pool(3) as pool:
        say(f"map: {pool.map(work, [0.1, 0.0, 0.2])}")
        for result in pool.imap_unordered(work, [0.3, 0.15, 0.0]):
            say(f"as it comes: {result}")
        try:
            pool.apply(crash, (None,))
        except Exception as error:
            say(f"a dead worker fails its task alone: {type(error).__name__}: {error}")
        say(f"and the pool goes on: {pool.apply(work, (0.0,))}")


def fill(dictionary, done):
    dictionary[os.getpid()] = fastmp.current_process().name
    done.set()


def managed_dictionary():
    done = Event()
    with Manager() as manager:
        names = manager.dict()
        child = Process(target=fill, args=(names, done), name="writer")
        child.start()
        done.wait()
        child.join()
        say(f"in the manager: {sorted(names.values())}")


if __name__ == "__main__":
    start = time.perf_counter()
    for part in (
        consumers_of_a_queue,
        pipe_to_a_child,
        shared_memory_and_a_barrier,
        pool_of_workers,
        managed_dictionary,
    ):
        print(f"\n{part.__name__.replace('_', ' ')}", flush=True)
        part()
    print(f"\n{time.perf_counter() - start:.2f} s, and no process left: {fastmp.active_children()}")
