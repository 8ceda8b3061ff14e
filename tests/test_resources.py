"""Something runs out, or is not there: a clear exception, nothing leaked, and all works again after it.

Each test runs a program of its own, which sets the limit for itself. What ran out is an OSError or a
MemoryError, and nothing is left of what failed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DEADLINE = 60
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")

PRELUDE = """
import contextlib, errno, gc, os, resource, sys
import fastmp
from fastmp import _core

def state():
    gc.collect()
    fastmp.active_children()
    return len(os.listdir("/proc/self/fd")), _core.arena_info()["blocks"], len(fastmp.active_children())

@contextlib.contextmanager
def limit(name, soft):
    kind = getattr(resource, name)
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)

def expect(number, make):
    try:
        made = make()
    except OSError as e:
        assert e.errno == number, repr(e)
    else:
        raise AssertionError(f"{made!r} was made")

def nothing():
    pass

def double(x):
    return 2 * x

def everything(ctx):
    queue, (here, there), lock, value = ctx.Queue(), ctx.Pipe(), ctx.Lock(), ctx.Value("i", 0)
    child = ctx.Process(target=work, args=(queue, there, lock, value))
    child.start()
    there.close()
    here.send(20)
    assert queue.get(timeout=30) == 21
    assert here.recv() == bytes(300_000)
    child.join(30)
    assert child.exitcode == 0, child.exitcode
    assert value.value == 1
    with ctx.Pool(2) as pool:
        assert pool.map(double, range(10)) == list(range(0, 20, 2))
    pool.join()  # its supervisor has the pool's memory until it ends
    with ctx.Manager() as manager:
        items = manager.list([1])
        items.append(2)
        assert list(items) == [1, 2]

def work(queue, connection, lock, value):
    with lock, value.get_lock():
        value.value += 1
    queue.put(connection.recv() + 1)
    connection.send(bytes(300_000))
"""


def run(folder: Path, body: str, *launcher: object) -> str:
    """The output of a program whose main part is `body`, started by a launcher if there is one."""
    script = folder / "program.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    script.write_text(f"{PRELUDE}\nif __name__ == '__main__':\n{lines}")
    done = subprocess.run(
        [sys.executable, *map(str, launcher), script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_no_descriptors_left(tmp_path, start_method):
    run(
        tmp_path,
        f"""
ctx = fastmp.get_context({start_method!r})
everything(ctx)
before = state()
held = []
with limit("RLIMIT_NOFILE", 64):
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    makers = [ctx.Pipe, ctx.Manager, lambda: ctx.Pool(2)]
    for more in [ctx.Process(target=nothing).start], []:
        for make in makers + more:
            expect(errno.EMFILE, make)
        locks, queue = [ctx.Lock() for _ in range(100)], ctx.Queue()
        queue.put(1)
        assert queue.get() == 1
        del locks, queue
        os.close(held.pop())  # one is left: enough for the first of two workers
for descriptor in held:
    os.close(descriptor)
assert state() == before, (state(), before)
everything(ctx)
assert state() == before, (state(), before)
""",
    )


@ONLY_ROOT
@pytest.mark.start_methods("fork")  # the others begin with the start of a program
def test_no_processes_left(tmp_path, start_method):
    """The limit counts for a user, and not for root."""
    run(
        tmp_path,
        f"""
ctx = fastmp.get_context({start_method!r})
everything(ctx)
ctx.Pool, ctx.Manager
os.setgid(12345)
os.setuid(12345)
before = state()
with limit("RLIMIT_NPROC", 1):
    expect(errno.EAGAIN, ctx.Process(target=nothing).start)
    expect(errno.EAGAIN, lambda: ctx.Pool(2))
    expect(errno.EAGAIN, ctx.Manager)
assert state() == before, (state(), before)
child = ctx.Process(target=nothing)  # not everything: that user may not read more of the library
child.start()
child.join(30)
assert child.exitcode == 0, child.exitcode
""",
    )


def test_no_memory_left(tmp_path):
    run(
        tmp_path,
        """
queue, (reader, writer) = fastmp.Queue(), fastmp.Pipe(duplex=False)
payload = bytes(200 << 20)
before = state()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
with limit("RLIMIT_AS", used + (64 << 20)):
    arrays = lambda: fastmp.Array("b", 200 << 20)
    for make in lambda: queue.put(payload), lambda: queue.put([payload]), arrays:
        try:
            make()
        except MemoryError:
            pass
        else:
            raise AssertionError("there was room")
    queue.put("small")
    assert queue.get() == "small"
    writer.send("small")
    assert reader.recv() == "small"
assert queue.empty()
assert state()[1] <= before[1] + 1, (state(), before)
queue.put(payload)
assert queue.get() == payload
""",
    )


@pytest.mark.parametrize("limits", ["RLIMIT_AS", "RLIMIT_FSIZE"])
def test_a_worker_that_limits_itself_goes_on(tmp_path, limits):
    """4 GiB of address space is a common recipe; files of no size at all are the extreme."""
    run(
        tmp_path,
        f"""
def limit_itself():
    most = 4 << 30 if {limits!r} == "RLIMIT_AS" else 0
    kind = getattr(resource, {limits!r})
    resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))

with fastmp.get_context("fork").Pool(2, limit_itself) as pool:
    assert pool.map(double, range(1000), chunksize=1) == list(range(0, 2000, 2))
    assert pool.map(bytes, [50 << 20] * 4, chunksize=1) == [bytes(50 << 20)] * 4
    assert pool.apply(len, (bytes(50 << 20),)) == 50 << 20
""",
    )


def test_a_limit_of_file_size_from_the_start(tmp_path, start_method):
    """The arena is small then; what does not fit is a MemoryError."""
    run(
        tmp_path,
        f"""
everything(fastmp.get_context({start_method!r}))
queue = fastmp.Queue()
sent = 0
try:
    while sent < 1 << 30:
        queue.put(bytes(8 << 20))
        sent += 8 << 20
except MemoryError:
    pass
assert 64 << 20 < sent < 400 << 20, sent
while not queue.empty():
    assert queue.get() == bytes(8 << 20)
    sent -= 8 << 20
assert sent == 0
everything(fastmp.get_context({start_method!r}))
""",
        TESTS / "limited.py",
        "RLIMIT_FSIZE",
        400 << 20,
    )


@pytest.mark.parametrize("how", ["os.closerange(3, 4096)", "[os.close(fd) for fd in ours()]"])
def test_a_worker_that_closes_all_descriptors_goes_on(tmp_path, how):
    """As those who make daemons of themselves do."""
    run(
        tmp_path,
        f"""
def ours():
    found = [int(name) for name in os.listdir("/proc/self/fd")]
    return [fd for fd in found if fd > 2 and os.path.exists(f"/proc/self/fd/{{fd}}")]

def close_all():
    {how}

with fastmp.get_context("fork").Pool(2, close_all) as pool:
    assert pool.map(double, range(1000), chunksize=1) == list(range(0, 2000, 2))
    assert pool.map(bytes, [50 << 20] * 4, chunksize=1) == [bytes(50 << 20)] * 4
""",
    )


def test_one_processor(tmp_path, start_method):
    """Who spins there only keeps others from what he waits for."""
    run(
        tmp_path,
        f"""
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
assert fastmp.cpu_count() == 1
everything(fastmp.get_context({start_method!r}))
""",
    )


@pytest.mark.parametrize("missing", ["pidfd_open", "populate", "pidfd_open,populate"])
def test_an_old_kernel_or_a_strict_container(tmp_path, start_method, missing):
    body = f"ctx = fastmp.get_context({start_method!r})\neverything(ctx)\nbefore = state()\neverything(ctx)\n"
    run(tmp_path, body + "assert state() == before, (state(), before)", TESTS / "seccomp.py", missing)


GROUPS = Path("/sys/fs/cgroup/cpu")


@ONLY_ROOT
def test_cpu_count_sees_the_limit_of_a_control_group(tmp_path):
    if not os.access(GROUPS / "cpu.cfs_quota_us", os.W_OK):
        pytest.skip("control groups cannot be made here")
    outer = GROUPS / f"fastmp-{os.getpid()}"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    try:
        (outer / "cpu.cfs_quota_us").write_text("50000")  # half of a processor
        program = f"""
open({str(inner / "cgroup.procs")!r}, "w").write("0")
assert fastmp.cpu_count() == 1
everything(fastmp.get_context("fork"))
"""
        run(tmp_path, program)
    finally:
        inner.rmdir()
        outer.rmdir()
