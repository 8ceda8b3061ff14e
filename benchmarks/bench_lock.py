"""Lock and RLock: taken and released while nobody else wants them, and while another process does."""

from typing import Any

from rows import crew, row, seconds


def take_and_give(count: int, lock: Any) -> None:
    for _ in range(count):
        with lock:
            pass


@row("with Lock()", count=300_000, aim=2, limit="threading.Lock")
def with_lock(mp: Any, count: int) -> float:
    lock = mp.Lock()
    return seconds(lambda count: take_and_give(count, lock), count)


@row("with RLock()", count=300_000, aim=2, limit="threading.RLock")
def with_rlock(mp: Any, count: int) -> float:
    lock = mp.RLock()
    return seconds(lambda count: take_and_give(count, lock), count)


def acquire_and_release(count: int, lock: Any) -> None:
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        release()


@row("Lock acquire + release", count=300_000, aim=1.1, limit="threading.Lock acquire + release")
def lock_calls(mp: Any, count: int) -> float:
    lock = mp.Lock()
    return seconds(lambda count: acquire_and_release(count, lock), count)


@row("RLock acquire + release", count=300_000, aim=1.1, limit="threading.RLock acquire + release")
def rlock_calls(mp: Any, count: int) -> float:
    lock = mp.RLock()
    return seconds(lambda count: acquire_and_release(count, lock), count)


def contend(mp: Any, lock: Any, count: int) -> float:
    with crew(mp, 2, take_and_give, lock) as members:

        def repeat(count: int) -> None:
            members.order(max(1, count // 2))
            members.wait()

        return seconds(repeat, count, parts=1)  # in a short part, one might be done before the other begins


@row("with Lock(), two processes want it", count=1_000_000, aim=2, limit="threading.Lock")
def contended_lock(mp: Any, count: int) -> float:
    return contend(mp, mp.Lock(), count)


@row("with RLock(), two processes want it", count=1_000_000, aim=2, limit="threading.RLock")
def contended_rlock(mp: Any, count: int) -> float:
    return contend(mp, mp.RLock(), count)
