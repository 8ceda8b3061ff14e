"""Notebook 002, "Parallel programming, lab 3": the life of a process, subclasses, pipelines, a manager.

Its last cells, which run MPI, are in tests/test_mpi.py.
"""

import os
import random
import re
from datetime import datetime
from time import time

import pytest
import terminal  # noqa: F401  # for children

import fastmp as multiprocessing
from fastmp import Barrier, Event, Lock, Process, Semaphore


def call(i):
    print(f"called function in process: {i}")


def test_processes_one_after_another(printed, finish):
    for i in range(5):
        p = multiprocessing.Process(target=call, args=(i,))
        p.start()
        finish(p)
    assert printed() == [f"called function in process: {i}" for i in range(5)]


def say_name(may_exit):
    name = multiprocessing.current_process().name
    print(f"Starting {name} \n")
    may_exit.wait(30)
    print("Exiting %s \n %name")  # as the notebook has it


def test_a_process_has_the_name_given_or_a_numbered_one(printed, finish, last_number):
    may_exit = Event()
    named = multiprocessing.Process(name="foo_process", target=say_name, args=(may_exit,))
    named.daemon = True
    number = last_number() + 1
    numbered = multiprocessing.Process(target=say_name, args=(may_exit,))
    named.start()
    numbered.start()
    names = {process.name for process in multiprocessing.active_children()}
    may_exit.set()
    finish(named, numbered)
    assert names == {"foo_process", f"Process-{number}"}
    text = " ".join(printed())  # both may be within a print of several lines at the same time
    for piece in "Starting foo_process", f"Starting Process-{number}":
        assert text.count(piece) == 1
    for piece in "Exiting %s", "%name":
        assert text.count(piece) == 2


def start_and_exit(both):
    name = multiprocessing.current_process().name
    print(f"Starting {name} \n")
    both.wait(30)
    print(f"Exiting {name} \n")


def test_a_daemon_runs_beside_a_process_that_is_none(printed, finish):
    both = Barrier(2)
    background = multiprocessing.Process(name="background_process", target=start_and_exit, args=(both,))
    background.daemon = True
    foreground = multiprocessing.Process(name="NO_background_process", target=start_and_exit, args=(both,))
    foreground.daemon = False
    background.start()
    foreground.start()
    finish(background, foreground)
    lines = [line.strip() for line in printed()]
    assert sorted(lines[:2]) == ["Starting NO_background_process", "Starting background_process"]
    assert sorted(lines[2:]) == ["Exiting NO_background_process", "Exiting background_process"]
    assert (background.daemon, foreground.daemon) == (True, False)


def start_and_wait(started):
    print("Starting function", flush=True)
    started.set()
    Event().wait(30)
    print("Finished function")


def test_states_of_a_process_until_it_is_terminated(printed, finish):
    started = Event()
    p = multiprocessing.Process(target=start_and_wait, args=(started,))
    me = os.getpid()
    assert repr(p) == f"<Process name='{p.name}' parent={me} initial>"
    assert not p.is_alive()
    assert (p.pid, p.exitcode) == (None, None)
    p.start()
    assert repr(p) == f"<Process name='{p.name}' pid={p.pid} parent={me} started>"
    assert p.is_alive()
    assert started.wait(30)
    p.terminate()
    assert re.fullmatch(
        rf"<Process name='{p.name}' pid={p.pid} parent={me} (started|stopped exitcode=-SIGTERM)>", repr(p)
    )
    finish(p)
    assert repr(p) == f"<Process name='{p.name}' pid={p.pid} parent={me} stopped exitcode=-SIGTERM>"
    assert not p.is_alive()
    assert p.exitcode == -15
    assert printed() == ["Starting function"]


class MyProcess(multiprocessing.Process):
    def run(self):
        print(f"called run method in process: {self.name}")


def test_a_subclass_runs_its_own_method_under_its_own_name(printed, finish, last_number):
    first = last_number() + 1
    for _ in range(5):
        p = MyProcess()
        p.start()
        finish(p)
    assert printed() == [f"called run method in process: MyProcess-{first + i}" for i in range(5)]


class Producer(multiprocessing.Process):
    def __init__(self, queue, turn, done):
        multiprocessing.Process.__init__(self)
        self.queue, self.turn, self.done = queue, turn, done

    def run(self):
        for _ in range(10):
            assert self.turn.acquire(timeout=30)
            item = random.randint(0, 256)
            self.queue.put(item)
            print(f"Process Producer : item {item} appended to queue {self.name}")
            print(f"The size of queue is {self.queue.qsize()}")
            self.done.release()


class Consumer(multiprocessing.Process):
    def __init__(self, queue, turn, done):
        multiprocessing.Process.__init__(self)
        self.queue, self.turn, self.done = queue, turn, done

    def run(self):
        while True:
            assert self.turn.acquire(timeout=30)
            if self.queue.empty():
                print("the queue is empty")
                self.done.release()
                break
            item = self.queue.get()
            print(f"Process Consumer : item {item} popped from by {self.name} \n")
            self.done.release()


def test_the_size_of_a_queue_between_producer_and_consumer(printed, finish):
    """The turns are those of the recorded output, which shows the sizes 1, 1, 2, 3, 3, 4, 5, 5, 6, 7;
    afterwards the consumer goes on until the queue is empty."""
    queue = multiprocessing.Queue()
    producing, consuming, done = Semaphore(0), Semaphore(0), Semaphore(0)
    producer = Producer(queue, producing, done)
    consumer = Consumer(queue, consuming, done)
    producer.start()
    consumer.start()
    turns = "P" + "CP" + "P" + "P" + "CP" + "P" + "P" + "CP" + "P" + "P" + "C" * 7 + "C"
    for turn in turns:
        (producing if turn == "P" else consuming).release()
        assert done.acquire(timeout=30)
    finish(producer, consumer)

    lines = [line.strip() for line in printed()]
    sizes = [int(line.rpartition(" ")[2]) for line in lines if line.startswith("The size of queue is")]
    assert sizes == [1, 1, 2, 3, 3, 4, 5, 5, 6, 7]
    put = [
        re.fullmatch(rf"Process Producer : item (\d+) appended to queue {producer.name}", line)
        for line in lines
    ]
    got = [
        re.fullmatch(rf"Process Consumer : item (\d+) popped from by {consumer.name}", line) for line in lines
    ]
    put_items = [match[1] for match in put if match]
    assert len(put_items) == 10
    assert [match[1] for match in got if match] == put_items
    assert lines[-1] == "the queue is empty"
    assert (producer.name.split("-")[0], consumer.name.split("-")[0]) == ("Producer", "Consumer")


def create_items(pipe):
    output_pipe, _ = pipe
    for item in range(10):
        output_pipe.send(item)
    output_pipe.close()


def multiply_items(pipe_1, pipe_2):
    close, input_pipe = pipe_1
    close.close()
    output_pipe, _ = pipe_2
    try:
        while True:
            item = input_pipe.recv()
            output_pipe.send(item * item)
    except EOFError:
        output_pipe.close()


def test_the_end_of_a_chain_of_pipes_is_eof(finish):
    pipe_1 = multiprocessing.Pipe(True)
    process_pipe_1 = multiprocessing.Process(target=create_items, args=(pipe_1,))
    process_pipe_1.start()
    pipe_2 = multiprocessing.Pipe(True)
    process_pipe_2 = multiprocessing.Process(target=multiply_items, args=(pipe_1, pipe_2))
    process_pipe_2.start()
    pipe_1[0].close()
    pipe_2[0].close()
    received = []
    with pytest.raises(EOFError):
        while True:
            assert pipe_2[1].poll(30)
            received.append(pipe_2[1].recv())
    finish(process_pipe_1, process_pipe_2)
    assert received == [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]


def stamp_after_barrier(synchronizer, serializer):
    name = multiprocessing.current_process().name
    synchronizer.wait(30)
    now = time()
    with serializer:
        print(f"process {name} ----> {datetime.fromtimestamp(now)}")


def stamp():
    name = multiprocessing.current_process().name
    now = time()
    print(f"process {name} ----> {datetime.fromtimestamp(now)}")


def test_a_barrier_holds_the_first_until_the_second_comes(printed, finish):
    synchronizer = Barrier(2)
    serializer = Lock()
    args = (synchronizer, serializer)
    p1 = Process(name="p1 - test_with_barrier", target=stamp_after_barrier, args=args)
    p2 = Process(name="p2 - test_with_barrier", target=stamp_after_barrier, args=args)
    p3 = Process(name="p3 - test_without_barrier", target=stamp)
    p4 = Process(name="p4 - test_without_barrier", target=stamp)
    for process in p1, p3, p4:
        process.start()
    finish(p3, p4)
    assert p1.is_alive()
    before = [line.partition(" ---->")[0] for line in printed()]
    p2.start()
    finish(p1, p2)
    after = [line.partition(" ---->")[0] for line in printed()]
    assert sorted(before) == ["process p3 - test_without_barrier", "process p4 - test_without_barrier"]
    assert sorted(after) == ["process p1 - test_with_barrier", "process p2 - test_with_barrier"]


def set_item(dictionary, key, item):
    dictionary[key] = item
    print("key = ", key, "value = ", item)


def test_processes_fill_a_managed_dictionary(printed, finish):
    mgr = multiprocessing.Manager()
    dictionary = mgr.dict()
    jobs = [multiprocessing.Process(target=set_item, args=(dictionary, i, i * 2)) for i in range(10)]
    for j in jobs:
        j.start()
    finish(*jobs)
    expected = {i: i * 2 for i in range(10)}
    assert dictionary.copy() == expected
    assert sorted(eval(str(dictionary)).items()) == sorted(expected.items())  # the dict's own str
    assert sorted(printed()) == [f"key =  {i} value =  {i * 2}" for i in range(10)]


def function_square(data):
    return data * data


def test_pool_maps_a_hundred_inputs():
    inputs = list(range(100))
    pool = multiprocessing.Pool(processes=4)
    pool_outputs = pool.map(function_square, inputs)
    pool.close()
    pool.join()
    assert pool_outputs == [i * i for i in range(100)]
