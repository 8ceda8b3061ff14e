"""Named shared memory and the list in it; who removes it, and when."""

import os
import pickle
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import fastmp
from fastmp import shared_memory
from fastmp.managers import SharedMemoryManager
from fastmp.shared_memory import ShareableList, SharedMemory

DEADLINE = 60


@pytest.fixture
def segment():
    memory = SharedMemory(create=True, size=64)
    yield memory
    memory.close()
    memory.unlink()


@pytest.fixture
def listing():
    """A function that makes lists, which go when the test is over."""
    made = []

    def make(*args, **kwargs):
        made.append(ShareableList(*args, **kwargs))
        return made[-1]

    yield make
    for items in made:
        items.shm.close()
        items.shm.unlink()


def exists(memory):
    return Path("/dev/shm", memory.name).exists()


def run_program(code, *args, **kwargs):
    """Run a program of its own, tracker included: it has ended when its standard error is closed."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **kwargs)


# ---- SharedMemory ------------------------------------------------------------------------------------------


def test_two_see_the_same_memory(segment):
    other = SharedMemory(segment.name)
    assert (other.size, other.name, bytes(other.buf)) == (64, segment.name, bytes(64))
    segment.buf[:3] = b"abc"
    assert bytes(other.buf[:3]) == b"abc"
    other.close()
    assert other.buf is None
    other.close()
    assert bytes(segment.buf[:3]) == b"abc"
    assert repr(segment) == f"SharedMemory({segment.name!r}, size=64)"


def test_names(segment):
    assert segment._name.startswith(shared_memory._SHM_NAME_PREFIX) and len(segment._name) <= 14
    assert segment.name == segment._name[1:]
    assert segment._flags & os.O_EXCL and not SharedMemory(segment.name)._flags & os.O_EXCL


def test_a_name_that_is_taken_is_not_taken_again(segment, monkeypatch):
    names = [segment._name, segment._name, "/fastmp-test-free"]
    monkeypatch.setattr(shared_memory, "_make_filename", lambda: names.pop(0))
    memory = SharedMemory(create=True, size=1)
    memory.close()
    memory.unlink()
    assert memory._name == "/fastmp-test-free" and not names


def write_in_child(memory):
    memory.buf[0] = 42
    memory.close()


def test_children_write_into_it(segment, start, finish):
    finish(start(write_in_child, segment))
    assert segment.buf[0] == 42


def test_pickled_by_name(segment):
    segment.buf[0] = 7
    copy = pickle.loads(pickle.dumps(segment))
    assert (copy.name, copy.size, copy.buf[0]) == (segment.name, 64, 7)
    copy.close()


@pytest.mark.parametrize(
    "args, error",
    [
        ({"create": True, "size": -1}, ValueError),
        ({"create": True}, ValueError),
        ({}, ValueError),
        ({"size": 1}, ValueError),
        ({"name": "fastmp-no-such"}, FileNotFoundError),
        ({"name": "", "create": True, "size": 1}, OSError),
        ({"name": "a/b", "create": True, "size": 1}, OSError),
        ({"name": "a\0b", "create": True, "size": 1}, ValueError),
        ({"name": b"bytes", "create": True, "size": 1}, TypeError),
        ({"create": True, "size": 1.5}, TypeError),
        ({"create": True, "size": "1"}, TypeError),
        ({"create": True, "size": 1 << 62}, OSError),
        ({"create": True, "size": 1 << 80}, OverflowError),
    ],
)
def test_bad_arguments_leave_nothing(args, error):
    with pytest.raises(error):
        SharedMemory(**args)


def test_a_name_exists_once(segment):
    with pytest.raises(FileExistsError):
        SharedMemory(segment.name, create=True, size=1)


def test_an_empty_file_cannot_be_attached_to():
    path = Path("/dev/shm/fastmp-test-empty")
    path.touch()
    try:
        with pytest.raises(ValueError, match="empty"):
            SharedMemory(path.name)
        assert path.exists()
    finally:
        path.unlink()


def test_views_keep_it_open(segment):
    view = segment.buf[1:3]
    with pytest.raises(BufferError):
        segment.close()
    segment.buf[1] = 5  # it is as it was
    assert view[0] == 5
    view.release()
    segment.close()


def test_views_may_outlive_it():
    memory = SharedMemory(create=True, size=8)
    view = memory.buf[:]
    memory.unlink()
    del memory
    view[:] = b"12345678"
    assert bytes(view) == b"12345678"


def test_unlink_is_once():
    memory = SharedMemory(create=True, size=8)
    memory.unlink()
    memory.buf[0] = 1
    with pytest.raises(FileNotFoundError):
        memory.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(memory.name)
    memory.close()


def test_one_that_was_never_opened():
    memory = SharedMemory.__new__(SharedMemory)
    assert memory.buf is None
    memory.close()
    memory.unlink()


# ---- who removes it ----------------------------------------------------------------------------------------

ATTACH = """
import sys
from fastmp.shared_memory import SharedMemory
memory = SharedMemory(sys.argv[1])
memory.buf[0] += 1
memory.close()
"""


def test_another_program_that_attached_removes_nothing(segment):
    done = run_program(ATTACH, segment.name)
    assert (done.returncode, done.stderr, segment.buf[0]) == (0, "", 1)
    assert exists(segment)


def test_another_program_may_unlink_it():
    code = "from fastmp.shared_memory import SharedMemory; import sys, subprocess\n" + (
        "memory = SharedMemory(create=True, size=1)\n"
        "code = 'import sys; from fastmp.shared_memory import *; SharedMemory(sys.argv[1]).unlink()'\n"
        "subprocess.run([sys.executable, '-c', code, memory.name], check=True)\n"
        "memory.close()\n"
    )
    done = run_program(code)
    assert (done.returncode, done.stderr) == (0, "")


CREATE = """
import os, signal, sys
from fastmp.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=1{track})
print(memory.name, flush=True)
{end}
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
LEAKED = "There appear to be 1 leaked shared_memory objects"


@pytest.mark.parametrize("track", ["", ", track=True"])
@pytest.mark.parametrize("end", [KILLED, "sys.exit()"])
def test_what_a_program_forgot_is_removed(end, track):
    done = run_program(CREATE.format(track=track, end=end))
    assert not Path("/dev/shm", done.stdout.strip()).exists()
    if end == KILLED or track:
        assert LEAKED in done.stderr
    else:
        assert done.stderr == ""  # nobody can have used it any more


def test_attaching_is_tracked_if_the_program_says_so(segment):
    done = run_program(ATTACH.replace("sys.argv[1]", "sys.argv[1], track=True"), segment.name)
    assert LEAKED in done.stderr
    assert not exists(segment)
    segment = SharedMemory(segment.name, create=True, size=1)  # what the fixture unlinks
    segment.close()


def test_untracked_memory_stays():
    done = run_program(CREATE.format(track=", track=False", end=KILLED))
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    memory = SharedMemory(done.stdout.strip(), track=False)
    memory.close()
    memory.unlink()


CHILD = """
import fastmp, os, signal
{shared}

def make(conn, end):
    memory = fastmp.shared_memory.SharedMemory(create=True, size=1)
    memory.buf[0] = 9
    conn.send(memory.name)
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

def name_from_child(method, end):
    ours, theirs = fastmp.Pipe()
    child = fastmp.get_context(method).Process(target=make, args=(theirs, end))
    child.start()
    name = ours.recv()
    child.join()
    return name

if __name__ == "__main__":
    name = name_from_child({method!r}, {end!r})
    SharedMemory = fastmp.shared_memory.SharedMemory
"""
ONE_TRACKER = "from fastmp import shared_memory"
TRACKERS = pytest.mark.parametrize("shared", [ONE_TRACKER, ""], ids=["one tracker", "each its own"])


def run_parent(folder, then, **values):
    """Run CHILD as a file, which children may have to import; `then` is what it does with the name."""
    path = folder / "parent.py"
    path.write_text(CHILD.format(**values) + "".join(f"    {line}\n" for line in then))
    return subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=DEADLINE)


@TRACKERS
def test_what_a_child_made_outlives_it(tmp_path, start_method, shared):
    then = ["memory = SharedMemory(name)", "assert memory.buf[0] == 9", "memory.close()", "memory.unlink()"]
    done = run_parent(tmp_path, then, method=start_method, end="regular", shared=shared)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_child_made_goes_with_the_program(tmp_path, start_method):
    done = run_parent(tmp_path, ["print(name)"], method=start_method, end="regular", shared=ONE_TRACKER)
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path("/dev/shm", done.stdout.strip()).exists()


@TRACKERS
def test_what_a_killed_child_made_is_removed(tmp_path, start_method, shared):
    done = run_parent(tmp_path, ["print(name)"], method=start_method, end="killed", shared=shared)
    assert done.returncode == 0
    assert LEAKED in done.stderr
    assert not Path("/dev/shm", done.stdout.strip()).exists()


POOL = """
import fastmp
from fastmp.shared_memory import SharedMemory

def make(value):
    memory = SharedMemory(create=True, size=1)
    memory.buf[0] = value
    return memory.name

if __name__ == "__main__":
    with fastmp.get_context({method!r}).Pool(1) as pool:
        name = pool.apply(make, (9,))
    memory = SharedMemory(name)
    assert memory.buf[0] == 9
    memory.unlink()
"""


def test_what_a_worker_made_outlives_the_pool(tmp_path, start_method):
    """Although its end is sudden."""
    path = tmp_path / "pool.py"
    path.write_text(POOL.format(method=start_method))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")


# ---- ShareableList -----------------------------------------------------------------------------------------

VALUES = [1, -2.5, True, False, None, "abc", b"xy", "é" * 10, -(2**63), "", b"", float("inf")]


def test_values_come_back(listing):
    items = listing(VALUES)
    assert list(items) == VALUES
    assert [type(item) for item in items] == [type(value) for value in VALUES]
    assert (len(items), items[-1], items[0]) == (len(VALUES), float("inf"), 1)
    assert repr(items) == f"ShareableList({VALUES!r}, name={items.shm.name!r})"


def test_zeros_at_the_end_are_kept(listing):
    values = ["a\0", "\0", b"\0\0", b"x\0y\0", "x" * 8, b"\0" * 8]
    items = listing(values)
    assert list(items) == values
    items[4] = "\0"
    assert items[4] == "\0"


def test_attached_by_name_and_pickled(listing):
    items = listing(["a", 1])
    for other in (ShareableList(name=items.shm.name), pickle.loads(pickle.dumps(items))):
        other[1] += 1
        assert list(other) == list(items)
        other.shm.close()
    assert items[1] == 3


@pytest.mark.parametrize("sequence", [[], (), range(3), iter([1, "a"]), "ab", None], ids=str)
def test_from_any_iterable(listing, sequence):
    assert len(listing(sequence)) in (0, 2, 3)


def test_a_copy_is_another(listing):
    items = listing([1, 2])
    copy = listing(items)
    copy[0] = 5
    assert (list(items), list(copy)) == ([1, 2], [5, 2])


def test_a_copy_has_the_same_room(listing):
    items = listing(["x" * 20])
    items[0] = "short"
    copy = listing(items)
    assert copy.format == items.format == "24s"
    copy[0] = "y" * 24
    assert (items[0], copy[0]) == ("short", "y" * 24)


def test_with_a_name(listing):
    items = listing([1], name="fastmp-test-list")
    assert items.shm.name == "fastmp-test-list"
    with pytest.raises(FileExistsError):
        ShareableList([1], name="fastmp-test-list")


def test_format(listing):
    items = listing([1, 2.5, True, None, "abc", b"12345678"])
    assert items.format == "qdxxxxxxx?xxxxxx?x8s16s"
    assert items._get_packing_format(4) == "8s"
    items[4] = 7
    assert items.format == "qdxxxxxxx?xxxxxx?xq16s"
    items[0] = b"z"
    assert items._get_packing_format(0) == "8s"
    with pytest.raises(IndexError):
        items._get_packing_format(6)


def test_a_value_gets_the_room_of_the_first(listing):
    items = listing([1, "abc", b"12345678"])
    items[1] = "12345678"
    items[2] = "x" * 16
    assert list(items) == [1, "12345678", "x" * 16]
    for value in ("123456789", "é" * 5, b"123456789"):
        with pytest.raises(ValueError, match="exceeds available storage"):
            items[1] = value
    items[1] = None
    items[1] = "87654321"
    assert items[1] == "87654321"


@pytest.mark.parametrize("value, error", [(2**63, struct.error), ([1], KeyError), (1j, KeyError)])
def test_values_that_do_not_fit_change_nothing(listing, value, error):
    items = listing(["abc"])
    with pytest.raises(error):
        items[0] = value
    assert list(items) == ["abc"]
    with pytest.raises(error):
        ShareableList([value])


@pytest.mark.parametrize("position", [3, -4])
def test_positions_out_of_range(listing, position):
    items = listing([1, 2, 3])
    with pytest.raises(IndexError, match=r"^index out of range"):
        items[position]
    with pytest.raises(IndexError, match="assignment index out of range"):
        items[position] = 1


@pytest.mark.parametrize("position", ["a", slice(0, 1), 1.0, None])
def test_positions_are_integers(listing, position):
    items = listing([1])
    with pytest.raises(TypeError):
        items[position]
    with pytest.raises(TypeError):
        items[position] = 1


def test_count_and_index(listing):
    items = listing([1, True, "a", 1.0, "a"])
    assert (items.count(1), items.count("a"), items.count("b")) == (3, 2, 0)
    assert (items.index("a"), items.index(1.0)) == (2, 0)
    with pytest.raises(ValueError, match="'b' not in this container"):
        items.index("b")
    assert 1 in items and "b" not in items


def append_in_child(items):
    items[0] = items[0] * 2
    items.shm.close()


def test_shared_with_children(listing, start, finish):
    items = listing(["ab", 1])
    finish(start(append_in_child, items))
    assert items[0] == "abab"


def test_nothing_to_read_after_close(listing):
    items = listing([1])
    items.shm.close()
    with pytest.raises(TypeError):
        items[0]


def test_generic():
    assert ShareableList[int].__origin__ is ShareableList


# ---- SharedMemoryManager -----------------------------------------------------------------------------------


@pytest.fixture
def manager(ctx):
    with SharedMemoryManager(ctx=ctx) as manager:
        yield manager


def test_what_a_manager_made_goes_with_it(ctx):
    with SharedMemoryManager(ctx=ctx) as manager:
        items, memory = manager.ShareableList("howdy"), manager.SharedMemory(size=128)
        assert (list(items), memory.size) == (list("howdy"), 128)
        assert exists(memory) and exists(items.shm)
        unlinked = manager.SharedMemory(size=1)
        unlinked.unlink()
    assert not exists(memory) and not exists(items.shm)
    memory.buf[0] = 1  # the memory is there while it is used
    for segment in (items.shm, memory, unlinked):
        segment.close()


def test_a_manager_that_does_not_run_makes_nothing(ctx):
    manager = SharedMemoryManager(ctx=ctx)
    with pytest.raises(ValueError):
        manager.SharedMemory(size=1)
    manager.start()
    manager.shutdown()
    with pytest.raises(ValueError):
        manager.ShareableList([1])


def allocate(manager, conn):
    memory = manager.SharedMemory(size=4)
    memory.buf[:] = b"left"
    conn.send(memory.name)


def test_it_outlives_the_process_that_asked_for_it(manager, ctx, finish):
    ours, theirs = fastmp.Pipe()
    with ours, theirs:
        child = ctx.Process(target=allocate, args=(manager, theirs))
        child.start()
        finish(child)
        memory = SharedMemory(ours.recv())
    assert bytes(memory.buf) == b"left"
    memory.close()


def test_released_before_the_end(manager):
    memory = manager.SharedMemory(size=4)
    assert manager._ask("list_segments") == [memory.name]
    manager._ask("release_segment", (memory.name,))
    assert manager._ask("list_segments") == [] and not exists(memory)
    memory.close()


@pytest.mark.parametrize("victim", ["os.getpid()", "manager._process.pid"])
def test_nothing_is_left_when_one_of_them_is_killed(victim):
    code = (
        "import os, signal\n"
        "from fastmp.managers import SharedMemoryManager\n"
        "manager = SharedMemoryManager()\n"
        "manager.start()\n"
        "print(manager.SharedMemory(size=4).name, flush=True)\n"
        f"os.kill({victim}, signal.SIGKILL)\n"
    )
    done = run_program(code)
    assert not Path("/dev/shm", done.stdout.strip()).exists()
