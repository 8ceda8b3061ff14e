"""The interface with threads: processes, pipes, listeners, pools and what a manager would make."""

import array
import pickle
import queue
import threading

import pytest

from fastmp import dummy, pool
from fastmp.dummy import connection

DEADLINE = 20


def run(process):
    process.start()
    process.join(DEADLINE)
    return process


def test_a_process_is_a_thread():
    seen = []
    process = dummy.Process(target=seen.append, args=(1,), name="worker")
    assert (process.name, process.exitcode, process.is_alive()) == ("worker", None, False)
    run(process)
    assert (seen, process.exitcode, process.is_alive()) == ([1], 0, False)
    with pytest.raises(RuntimeError):
        process.start()


def test_children_are_those_of_the_thread():
    go, inner = threading.Event(), queue.Queue()

    def parent():
        child = dummy.Process(target=go.wait)
        child.start()
        inner.put((dummy.active_children() == [child], child))

    outer = dummy.Process(target=parent)
    before = dummy.active_children()
    run(outer)
    seen, child = inner.get(timeout=DEADLINE)
    assert seen
    assert child.is_alive() and child.exitcode is None
    assert dummy.active_children() == before
    go.set()
    child.join(DEADLINE)


def test_children_of_a_thread_that_is_not_ours():
    seen = queue.Queue()
    threading.Thread(target=lambda: seen.put(dummy.active_children())).start()
    assert seen.get(timeout=DEADLINE) == []


def test_only_the_parent_starts_a_process():
    process, seen = dummy.Process(), queue.Queue()

    def start():
        try:
            process.start()
        except RuntimeError as e:
            seen.put(str(e))

    run(dummy.Process(target=start))
    assert "current_process" in seen.get(timeout=DEADLINE)


@pytest.mark.parametrize("duplex", [True, False])
def test_pipe(duplex):
    a, b = dummy.Pipe(duplex)
    sent = object()
    assert not b.poll() and not b.poll(0) and not b.poll(0.001)
    a.send(sent)
    assert b.poll(None) and b.recv() is sent
    with b:
        b.send_bytes(b"x")
    assert a.poll(DEADLINE) and a.recv_bytes() == b"x"


def test_poll_waits_for_a_message():
    a, b = dummy.Pipe()
    polling = queue.Queue()
    process = dummy.Process(target=lambda: polling.put(b.poll(DEADLINE)))
    process.start()
    a.send(1)
    assert polling.get(timeout=DEADLINE) is True
    process.join(DEADLINE)


def test_listener():
    with connection.Listener() as listener:
        server = dummy.Process(target=lambda: listener.accept().send("hello"))
        server.start()
        assert connection.Client(listener.address).recv() == "hello"
        server.join(DEADLINE)
    assert listener.address is None
    with pytest.raises(OSError):
        listener.accept()


def test_what_a_manager_makes():
    manager = dummy.Manager()
    assert manager.list((1, 2)) == [1, 2] and manager.dict(a=1) == {"a": 1}
    assert manager.Array("i", [1, 2]) == array.array("i", [1, 2])
    value = manager.Value("d", 1.5)
    value.value += 1
    assert (value.value, repr(value)) == (2.5, "<Value('d', 2.5)>")
    space = manager.Namespace(a=1, _b=2)
    space.c = 3
    assert repr(space) == "Namespace(a=1, c=3)"
    assert repr(pickle.loads(pickle.dumps(space))) == "Namespace(a=1, c=3)"
    manager.shutdown()


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_locks(name):
    lock = getattr(dummy, name)()
    with lock:
        pass
    assert lock.acquire(timeout=0)
    lock.release()


@pytest.mark.parametrize("name", ["Queue", "JoinableQueue"])
def test_queues(name):
    q = getattr(dummy, name)(1)
    q.put(1)
    with pytest.raises(queue.Full):
        q.put_nowait(2)
    assert q.get() == 1
    q.task_done()
    q.join()


def test_pool_of_threads():
    with dummy.Pool(2) as workers:
        assert isinstance(workers, pool.ThreadPool)
        assert workers.map(threading.Thread.is_alive, [threading.current_thread()]) == [True]


def test_names_and_nothing_to_do():
    assert dummy.current_process() is threading.current_thread()
    assert dummy.freeze_support() is None
    assert all(hasattr(dummy, name) for name in dummy.__all__)
    assert all(hasattr(connection, name) for name in connection.__all__)
