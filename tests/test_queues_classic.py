"""Subclasses of queues: plain ones stay in shared memory, those that take a queue apart get a classic one."""

import collections
import queue
import threading

import pytest

import fastmp
from fastmp import _classic_queue, queues, util
from fastmp._core import MessageQueue

DEADLINE = 30

ctx = fastmp.get_context("fork")


class Unpicklable:
    def __reduce__(self):
        raise ValueError("not me")


def in_child(function, *args):
    child = ctx.Process(target=function, args=args)
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == 0, child


# ---- who gets what ------------------------------------------------------------------------------------


class Plain(queues.Queue):
    def __init__(self, label):
        super().__init__(3, ctx=ctx)
        self.label = label

    def put(self, obj, block=True, timeout=None):
        super().put((self.label, obj), block, timeout)


def test_a_plain_subclass_stays_in_shared_memory():
    assert not issubclass(Plain, _classic_queue.ClassicQueue)
    q = Plain("x")
    q.put(1)
    assert q.get(timeout=DEADLINE) == ("x", 1)
    assert not hasattr(q, "_buffer")


def test_put_and_get_are_those_of_c():
    assert queues.Queue.put is MessageQueue.put
    assert queues.Queue.get is MessageQueue.get
    assert queues.JoinableQueue.task_done is MessageQueue.task_done
    assert queues.SimpleQueue.get is MessageQueue.get


class OwnFeed(queues.Queue):
    """Overrides the thread."""

    def __init__(self, maxsize=0, label=None, ctx=None):
        super().__init__(maxsize, ctx=ctx)
        self.label = label

    @staticmethod
    def _feed(buffer, notempty, send_bytes, *rest):
        def send_padded(message):
            send_bytes(bytes(message) + b"after the end of a pickle nothing counts")

        _classic_queue.ClassicQueue._feed(buffer, notempty, send_padded, *rest)


class OwnEnds(queues.Queue):
    """Mentions the ends of the pipe, as torch does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._send, self._recv = self._writer.send, self._reader.recv


class OwnSimple(queues.SimpleQueue):
    """Takes the parts by itself, as loky does."""

    def __getstate__(self):
        return self._reader, self._writer, self._rlock, self._wlock


class OwnJoinable(queues.JoinableQueue):
    def _start_thread(self):
        self.started = True
        super()._start_thread()


@pytest.fixture(params=[OwnFeed, OwnEnds, OwnJoinable])
def classic(request):
    q = request.param(ctx=ctx)
    yield q
    q.close()
    q.join_thread()


def test_classic_subclasses_are_queues_all_the_same(classic):
    assert isinstance(classic, queues.Queue)
    assert isinstance(classic, _classic_queue.ClassicQueue)
    assert isinstance(classic._buffer, collections.deque)
    assert isinstance(OwnSimple(ctx=ctx), queues.SimpleQueue)
    assert issubclass(OwnSimple, _classic_queue.ClassicSimpleQueue)


def test_subclass_of_a_classic_subclass():
    class Further(OwnFeed):
        def _on_queue_feeder_error(self, e, obj):
            seen.append((str(e), type(obj)))
            done.set()

    seen, done = [], threading.Event()
    assert Further.__mro__.count(_classic_queue.ClassicQueue) == 1
    assert not issubclass(Further, _classic_queue.Reporting)
    q = Further(ctx=ctx)
    q.put(Unpicklable())
    assert done.wait(DEADLINE)
    assert seen == [("not me", Unpicklable)]
    q.put("still works")
    assert q.get(timeout=DEADLINE) == "still works"
    q.close()
    q.join_thread()


# ---- the classic queue ----------------------------------------------------------------------------------


def test_put_and_get(classic):
    items = [None, 1, "text", [1, 2], b"x" * (1 << 20)]
    for item in items:
        classic.put(item)
    assert [classic.get(timeout=DEADLINE) for _ in items] == items
    assert classic.empty()
    assert classic.qsize() == 0
    with pytest.raises(queue.Empty):
        classic.get_nowait()
    with pytest.raises(queue.Empty):
        classic.get(timeout=0.01)


def test_bound():
    q = OwnEnds(2, ctx=ctx)
    assert not q.full()
    q.put(1)
    q.put_nowait(2)
    assert q.full()
    assert q.qsize() == 2
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    with pytest.raises(queue.Full):
        q.put(3, timeout=0.01)
    assert q.get(timeout=DEADLINE) == 1
    q.put(3)
    assert [q.get(timeout=DEADLINE), q.get()] == [2, 3]
    q.close()
    q.join_thread()


def test_between_processes(classic):
    in_child(lambda: [classic.put(n) for n in range(3)])
    assert [classic.get(timeout=DEADLINE) for _ in range(3)] == [0, 1, 2]
    classic.put("for a child")
    in_child(lambda: classic.get(timeout=DEADLINE) == "for a child" or fail())


def fail():
    raise AssertionError


def test_closed(classic):
    classic.put(1)
    assert classic.get(timeout=DEADLINE) == 1
    with pytest.raises(AssertionError, match="not closed"):
        classic.join_thread()
    classic.close()
    for use in (lambda: classic.put(1), classic.get):
        with pytest.raises(ValueError, match="is closed"):
            use()
    classic.join_thread()
    assert not classic._thread.is_alive()
    classic.close()


def test_cancel_join_thread(classic):
    classic.cancel_join_thread()
    classic.put(1)
    assert classic._jointhread is None
    assert classic.get(timeout=DEADLINE) == 1


def test_errors_of_the_thread_are_printed(capsys):
    q = OwnFeed(1, ctx=ctx)
    q.put(Unpicklable())
    q.put("the lost item left its place")
    assert q.get(timeout=DEADLINE) == "the lost item left its place"
    q.close()
    q.join_thread()
    assert "ValueError: not me" in capsys.readouterr().err


def test_joinable():
    q = OwnJoinable(ctx=ctx)
    q.join()
    q.put(1)
    q.put(2)
    assert q.started
    waiter = threading.Thread(target=q.join)
    waiter.start()
    assert [q.get(timeout=DEADLINE), q.get(timeout=DEADLINE)] == [1, 2]
    q.task_done()
    in_child(q.task_done)
    waiter.join(DEADLINE)
    assert not waiter.is_alive()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        q.task_done()
    q.close()
    q.join_thread()


def test_simple():
    q = OwnSimple(ctx=ctx)
    assert q.empty()
    in_child(q.put, {"from": "child"})
    assert not q.empty()
    assert q.get() == {"from": "child"}
    q.close()
    with pytest.raises(OSError, match="closed"):
        q.get()


def test_pickled_only_while_spawning(classic):
    with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
        fastmp.reduction.ForkingPickler.dumps(classic)


class Restored(queues.Queue):
    """Never calls __init__ of its base, like copies that are unpickled."""

    def __init__(self):
        self._reader, self._writer = ctx.Pipe(duplex=False)
        self._rlock, self._wlock = ctx.Lock(), ctx.Lock()
        self._maxsize, self._sem = 5, ctx.BoundedSemaphore(5)
        self._ignore_epipe = False
        self._reset()


def test_init_of_the_base_need_not_be_called():
    q = Restored()
    q.put("x")
    assert q.get(timeout=DEADLINE) == "x"
    q.close()
    q.join_thread()


def test_state_of_a_classic_queue_restores_it():
    first = OwnEnds(4, ctx=ctx)
    fastmp.context.set_spawning_popen(object())
    try:
        state = first.__getstate__()
        make, args, reduced = first.__reduce__()
    finally:
        fastmp.context.set_spawning_popen(None)
    assert state == reduced
    second = make(*args)
    second.__setstate__(state)
    second.put("through the same pipe")
    assert first.get(timeout=DEADLINE) == "through the same pipe"
    second.close()
    second.join_thread()


# ---- the thread meets errors ------------------------------------------------------------------------------


class Leaving:
    def __reduce__(self):
        raise SystemExit


class Raising(OwnFeed):
    def _on_queue_feeder_error(self, e, obj):
        raise e


@pytest.fixture
def hooked(monkeypatch):
    """What came to the threads' hook."""
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    return seen


@pytest.mark.parametrize("kind", [OwnFeed, Raising])
@pytest.mark.parametrize("bad, error", [(Unpicklable(), ValueError), (Leaving(), SystemExit)])
def test_what_cannot_be_sent_keeps_nothing_else(hooked, kind, bad, error):
    q = kind(1, ctx=ctx)
    for item in (bad, 1, bad, 2):
        q.put(item, timeout=DEADLINE)
        if item is not bad:
            assert q.get(timeout=DEADLINE) == item
    assert hooked == [error, error] * (kind is Raising)
    q.close()
    q.join_thread()


def test_the_thread_has_no_memory_for_a_moment(monkeypatch):
    real, left = _classic_queue._take, [MemoryError()] * 3

    def take(*args):
        if left:
            raise left.pop()
        return real(*args)

    monkeypatch.setattr(_classic_queue, "_take", take)
    q = OwnFeed(ctx=ctx)
    q.put(1)
    assert q.get(timeout=DEADLINE) == 1
    q.close()
    q.join_thread()


def test_the_thread_cannot_be_started(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    q = OwnFeed(1, ctx=ctx)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start new thread"):
        patch.setattr(threading.Thread, "start", refuse)
        q.put(1)
    q.put(2, timeout=DEADLINE)
    assert q.get(timeout=DEADLINE) == 2
    q.close()
    q.join_thread()


# ---- the hook for errors alone ----------------------------------------------------------------------------


class Hooked(queues.Queue):
    def __init__(self, *args):
        self.seen = []
        super().__init__(*args, ctx=ctx)

    def _on_queue_feeder_error(self, e, obj):
        self.seen.append((str(e), type(obj)))
        super()._on_queue_feeder_error(e, obj)


def test_hook_without_a_thread(capsys):
    assert not issubclass(Hooked, _classic_queue.ClassicQueue)
    q = Hooked(1)
    q.put(Unpicklable())
    assert q.seen == [("not me", Unpicklable)]
    assert "ValueError: not me" in capsys.readouterr().err
    q.put([1, "two"])
    with pytest.raises(queue.Full):
        q.put(2, timeout=0.01)
    assert q.get(timeout=DEADLINE) == [1, "two"]


def test_without_the_hook_put_raises():
    q = ctx.Queue()
    with pytest.raises(ValueError, match="not me"):
        q.put(Unpicklable())
    assert q.empty()


# ---- names -----------------------------------------------------------------------------------------------


def test_aliases():
    import types

    for kind in (queues.Queue, queues.JoinableQueue, queues.SimpleQueue):
        alias = kind[int]
        assert type(alias) is types.GenericAlias
        assert alias.__origin__ is kind


def test_names_that_libraries_import():
    assert (queues.Full, queues.Empty) == (queue.Full, queue.Empty)
    assert queues._sentinel is _classic_queue._sentinel
    assert not util.is_exiting()
