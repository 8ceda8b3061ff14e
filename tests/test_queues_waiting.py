"""Queues among other things that are waited for."""

import asyncio
import contextlib
import os
import pickle
import queue
import select
import signal

import pytest
from waiting import DEADLINE, join

import fastmp
from fastmp.connection import wait


def is_readable(reader):
    return bool(select.select([reader], [], [], 0)[0])


def test_the_reader_is_readable_while_something_is_in_the_queue(any_q):
    reader = any_q._reader
    assert not is_readable(reader)
    any_q.put(1)
    any_q.put(2)
    for expected in (1, 2):
        assert is_readable(reader)
        assert reader.poll()
        assert reader.recv() == expected
    assert not is_readable(reader)
    assert not reader.poll(0.01)


def test_what_was_there_before_makes_it_readable(any_q):
    any_q.put(1)
    assert is_readable(any_q._reader)
    assert any_q.get() == 1
    assert not is_readable(any_q._reader)


def test_no_descriptor_until_it_is_asked_for(any_q):
    before = os.listdir("/proc/self/fd")
    any_q.put(1)
    assert any_q._reader.poll()
    any_q.get()
    assert os.listdir("/proc/self/fd") == before


def test_ends(any_q):
    assert any_q._reader == any_q._reader
    assert any_q._reader != any_q._writer
    assert len({any_q._reader, any_q._reader, any_q._writer}) == 2
    assert any_q._reader.fileno() == any_q._reader.fileno()
    any_q._writer.send((1, 2))
    any_q._writer.send_bytes(pickle.dumps("raw"))
    assert pickle.loads(any_q._reader.recv_bytes()) == (1, 2)
    assert any_q.get() == "raw"


def test_an_end_may_be_closed(any_q):
    any_q.put(1)
    reader = any_q._reader
    reader.fileno()
    reader.close()
    assert (any_q._reader.closed, any_q._writer.closed) == (True, False)
    for refused in (any_q.get, any_q.empty, reader.fileno, reader.poll, reader.recv):
        with pytest.raises(OSError, match="handle is closed"):
            refused()
    any_q.put(2)
    any_q._writer.close()
    assert any_q._writer.closed
    with pytest.raises(OSError, match="handle is closed"):
        any_q.put(3)


def test_closing_the_queue_closes_both_ends(any_q):
    any_q._reader.fileno()
    any_q.close()
    assert any_q._reader.closed
    assert any_q._writer.closed


def put_at(go, q, item):
    go.wait(DEADLINE)
    q.put(item)


def test_wait_wakes_for_children_that_started_before(ctx, any_q, start):
    go = ctx.Event()
    children = [start(put_at, go, any_q, i) for i in range(2)]
    reader = any_q._reader
    assert wait([reader], 0) == []
    go.set()
    seen = []
    for _ in children:
        assert wait([reader], DEADLINE) == [reader]
        seen.append(reader.recv())
    assert sorted(seen) == [0, 1]
    assert wait([reader], 0) == []


def test_wait_for_a_queue_and_a_sentinel(ctx, start):
    go, q = ctx.Event(), ctx.SimpleQueue()
    child = start(put_at, go, q, "last words")
    reader = q._reader
    assert wait([reader, child.sentinel], 0.01) == []
    go.set()
    seen = []
    while child.sentinel not in seen:
        ready = wait([reader, child.sentinel], DEADLINE)
        assert ready
        seen += [reader.recv() if obj is reader else obj for obj in ready]
    assert "last words" in seen


def test_epoll_stays_ready(any_q):
    with select.epoll() as poll:
        poll.register(any_q._reader, select.EPOLLIN)
        any_q.put(1)
        any_q.put(2)
        for _ in range(3):
            assert poll.poll(0) == [(any_q._reader.fileno(), select.EPOLLIN)]
        any_q.get()
        assert poll.poll(0)
        any_q.get()
        assert poll.poll(0) == []


def put_many(q, who, count):
    for i in range(count):
        q.put((who, i))


def get_with_loop(q, count):
    async def receive():
        loop, done, seen = asyncio.get_running_loop(), asyncio.Event(), []

        def on_readable():
            with contextlib.suppress(queue.Empty):
                seen.append(q.get_nowait())
            if len(seen) == count:
                done.set()

        loop.add_reader(q._reader, on_readable)
        async with asyncio.timeout(DEADLINE):
            await done.wait()
        loop.remove_reader(q._reader)
        return seen

    return asyncio.run(receive())


def test_an_event_loop_loses_nothing(ctx, start):
    q = ctx.Queue()
    for who in range(2):
        start(put_many, q, who, 1000)
    assert sorted(get_with_loop(q, 2000)) == [(who, i) for who in range(2) for i in range(1000)]


def test_another_process_may_be_quicker(ctx, start, finish):
    q = ctx.Queue()
    assert not is_readable(q._reader)
    q.put(1)
    finish(start(q.get))
    assert is_readable(q._reader)  # in vain
    with pytest.raises(queue.Empty):
        q.get_nowait()
    assert not is_readable(q._reader)
    q.put(2)
    assert is_readable(q._reader)


def listen_too(q, ready, go):
    reader = q._reader
    assert wait([reader], 0) == []
    ready.set()
    assert wait([reader], DEADLINE) == [reader]
    assert reader.recv() == "mine"
    go.set()


def test_every_process_has_a_descriptor_of_its_own(ctx, start):
    q, ready, go = ctx.SimpleQueue(), ctx.Event(), ctx.Event()
    reader = q._reader
    reader.fileno()
    start(listen_too, q, ready, go)
    assert ready.wait(DEADLINE)
    q.put("mine")
    assert go.wait(DEADLINE)
    assert not reader.poll()
    q.put("ours")
    assert wait([reader], DEADLINE) == [reader]
    assert q.get() == "ours"


def listen_and_die(q, ready):
    q._reader.fileno()
    ready.release()
    signal.pause()


def test_killed_listeners_are_forgotten():
    ctx = fastmp.get_context("fork")
    q, ready = ctx.Queue(), ctx.Semaphore(0)
    for _ in range(3):  # more than there are places
        children = [ctx.Process(target=listen_and_die, args=(q, ready)) for _ in range(12)]
        for child in children:
            child.start()
        for _ in children:
            assert ready.acquire(timeout=DEADLINE)
        q.put(1)
        for child in children:
            child.kill()
        for child in children:
            join(child, -signal.SIGKILL)
        q.put(2)
        assert (q.get(), q.get()) == (1, 2)
