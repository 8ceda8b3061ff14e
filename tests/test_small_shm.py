"""A small /dev/shm, as containers have it, or one that cannot be written: only what has a name needs it."""

import shutil
import subprocess
import sys

import pytest

DEADLINE = 60


def in_namespace(mount, program=("true",)):
    """The program where /dev/shm is what `mount` makes of it, for it alone."""
    script = f'mount -t tmpfs -o {mount} tmpfs /dev/shm && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *program],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@pytest.fixture(params=["size=64m", "size=64k", "ro"])
def run(request, tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    allowed = in_namespace(request.param)
    if allowed.returncode != 0:
        pytest.skip(f"/dev/shm cannot be mounted anew here: {allowed.stderr.strip()}")

    def run_program(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        done = in_namespace(request.param, [sys.executable, str(path)])
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run_program


EVERYTHING = """
import fastmp

MEBIBYTE = 1 << 20

def answer(queue, answers):
    while (item := queue.get()) is not None:
        answers.put(len(item))

def double(n):
    return bytes(2 * n)

def write(array, lock):
    with lock:
        array[-1] = 7

if __name__ == "__main__":
    ctx = fastmp.get_context({method!r})
    queue, answers = ctx.Queue(), ctx.SimpleQueue()
    for _ in range(50):
        queue.put(bytes(10 * MEBIBYTE))
    child = ctx.Process(target=answer, args=(queue, answers))
    child.start()
    print(sum(answers.get() for _ in range(50)) // MEBIBYTE)
    queue.put(None)
    child.join()

    with ctx.Pool(2) as pool:
        print([len(done) // MEBIBYTE for done in pool.map(double, [50 * MEBIBYTE] * 2)])

    array, lock = ctx.Array("d", 20 * MEBIBYTE), ctx.Lock()
    child = ctx.Process(target=write, args=(array, lock))
    child.start()
    child.join()
    print(array[-1])

    with ctx.Manager() as manager:
        shared = manager.dict(data=bytes(100 * MEBIBYTE))
        print(len(shared["data"]) // MEBIBYTE)
    here, there = ctx.Pipe()
    here.send_bytes(b"small")
    print(there.recv_bytes())
"""


@pytest.mark.deadline(120)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nothing_needs_it(run, method):
    printed = run(EVERYTHING.format(method=method))
    assert printed.splitlines() == ["500", "[100, 100]", "7.0", "100", "b'small'"]


NAMED = """
import errno, os
from fastmp.shared_memory import ShareableList, SharedMemory

try:
    SharedMemory("/fastmp_small", create=True, size=100 << 20)
except OSError as error:
    print(errno.errorcode[error.errno] in ("ENOSPC", "EROFS"))
print(os.listdir("/dev/shm"))
try:
    memory = SharedMemory(create=True, size=30 << 10)
except OSError as error:
    print(error.errno == errno.EROFS)
else:
    memory.buf[-1] = 1
    try:
        ShareableList(["x" * 1000] * 60)  # there is no room beside the first, or there is
    except OSError as error:
        print(error.errno == errno.ENOSPC)
    else:
        print(os.statvfs("/dev/shm").f_blocks > 1000)
    memory.close()
    memory.unlink()
"""


def test_named_memory_that_finds_no_room_is_an_error(run):
    lines = run(NAMED).splitlines()
    assert lines == ["True", "[]", "True"]
