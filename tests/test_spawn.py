"""The start method spawn: what a new interpreter is told, and what becomes of it when things go wrong."""

import os
import pickle
import py_compile
import select
import signal
import stat
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fastmp
from fastmp import _core, _spawning, process, spawn

DEADLINE = 60  # seconds for a program
FOLDER = str(Path(fastmp.__file__).parents[1])

pytestmark = pytest.mark.start_methods("spawn")


def run(command, *, check=True, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=DEADLINE, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def program(tmp_path):
    """A function that runs a program in a file of its own, after lines that set the start method."""

    def run_program(
        code, *flags, head="import fastmp, os, sys; fastmp.set_start_method('spawn', force=True)\n", **options
    ):
        path = tmp_path / "program.py"
        path.write_text(head + code)
        return run([sys.executable, *flags, path], **options)

    return run_program


@pytest.fixture
def interpreter(tmp_path):
    """A function that makes a program which does `first` in a shell, then becomes the interpreter. Children
    are started with it until the end of the test."""

    def make(first):
        path = tmp_path / "interpreter"
        path.write_text(f'#!/bin/sh\n{first}\nexec {sys.executable} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        spawn.set_executable(path)
        return path

    yield make
    spawn.set_executable(sys.executable)


@pytest.fixture
def gate(tmp_path, interpreter):
    """Children are held up before their first step, until the function that this is is called."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    interpreter(f"read line < {path}")
    return lambda: path.write_text("go on\n")


# ---- what the child is told -------------------------------------------------------------------------


def test_preparation_data():
    data = spawn.get_preparation_data("child")
    assert data["name"] == "child"
    assert data["authkey"] == fastmp.current_process().authkey
    assert data["sys_argv"] is sys.argv
    assert data["dir"] == os.getcwd()
    assert data["orig_dir"] == process.ORIGINAL_DIR
    assert "" not in data["sys_path"]
    assert data["log_to_stderr"] is False
    assert "log_level" not in data


def test_relative_path_means_the_folder_in_which_the_program_began(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "elsewhere"])
    assert spawn.get_preparation_data("")["sys_path"] == [process.ORIGINAL_DIR, "elsewhere"]


def test_prepare(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(process, "ORIGINAL_DIR", process.ORIGINAL_DIR)
    monkeypatch.chdir(".")
    spawn.prepare({})
    spawn.prepare({"sys_path": ["a"], "sys_argv": ["b"], "dir": str(tmp_path), "orig_dir": "c"})
    assert (sys.path, sys.argv, os.getcwd(), process.ORIGINAL_DIR) == (["a"], ["b"], str(tmp_path), "c")


def test_command_line(monkeypatch):
    executable, *flags, c, code, mark = spawn.get_command_line(arena=3, owner=5)
    assert executable == spawn.get_executable()
    assert "spawn_main(arena=3, owner=5)" in code
    assert (c, mark) == ("-c", "--multiprocessing-fork")
    assert all(flag.startswith("-") for flag in flags)
    assert spawn.is_forking(["program", mark, "more"])
    assert not spawn.is_forking(["program"])
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert spawn.get_command_line(arena=3) == [sys.executable, mark, "arena=3"]


def test_executable():
    before = spawn.get_executable()
    try:
        for given, kept in (("/a/b", b"/a/b"), (b"/c", b"/c"), (Path("/d"), b"/d"), (None, None)):
            fastmp.set_executable(given)
            assert spawn.get_executable() == kept
    finally:
        spawn.set_executable(before)


def test_another_interpreter(ctx, start, finish, interpreter, tmp_path):
    interpreter(f"echo used >> {tmp_path}/log")
    finish(start(int), start(int))
    assert (tmp_path / "log").read_text() == "used\nused\n"


def test_an_interpreter_that_is_not_there(ctx, tmp_path):
    before = _core.arena_info()
    spawn.set_executable(tmp_path / "nothing")
    try:
        child = ctx.Process(target=int)
        child.start()
        child.join(DEADLINE)
        assert child.exitcode == 255
    finally:
        spawn.set_executable(sys.executable)
    child.close()
    assert _core.arena_info() == before


def test_flags_of_the_interpreter_are_those_of_the_parent(program):
    done = program(
        "def child():\n"
        "    print(sys.flags.optimize, sys.flags.utf8_mode, sys.warnoptions, sys._xoptions, flush=True)\n"
        "if __name__ == '__main__': p = fastmp.Process(target=child); p.start(); p.join(); child()\n",
        *("-O", "-W", "error::UserWarning", "-X", "dev", "-X", "utf8"),
    )
    childs, parents = done.stdout.splitlines()
    assert childs == parents
    assert parents.startswith("1 1 ") and "error::UserWarning" in parents and "'dev': True" in parents


GROUP = """
def child(): print(os.getcwd(), sys.path.count({folder!r}), __name__, sys.argv[1:])
if __name__ == "__main__":
    {before}
    p = fastmp.Process(target=child); p.start(); p.join()
    print(p.exitcode)
"""


def test_the_working_directory_is_that_of_the_parent(program, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    done = program(GROUP.format(before=f"os.chdir({str(folder)!r})", folder="/"))
    assert done.stdout == f"{folder} 0 __mp_main__ []\n0\n"


def test_a_working_directory_that_was_removed(program, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    before = f"os.chdir({str(folder)!r}); os.rmdir({str(folder)!r})"
    done = program(
        "def child(): print('lives')\n" + GROUP.partition("\n")[2].partition("\n")[2].format(before=before)
    )
    assert done.stdout == "lives\n0\n"


def test_fastmp_that_only_the_program_finds(program, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    head = f"import os, sys; sys.path.insert(0, {FOLDER!r})\nimport fastmp\n"
    head += "fastmp.set_start_method('spawn', force=True)\n"
    done = program(GROUP.format(before="pass", folder=FOLDER), head=head, env=environment, cwd=tmp_path)
    assert done.stdout.endswith("__mp_main__ []\n0\n")


MAIN = """
'the documentation'
import fastmp, sys
def child(): pass
cached = globals().get("__cached__", "nothing")  # which Python 3.15 doesn't set
sys.stdout.write(f"{__name__} {__doc__} {__file__} {__package__!r} {cached} {__spec__} {sys.argv}\\n")
def annotated() -> int: ...
assert annotated.__annotations__["return"] is int
if __name__ == "__main__":
    p = fastmp.get_context("spawn").Process(target=child); p.start(); p.join(); print(p.exitcode)
"""


@pytest.mark.parametrize("compiled", [False, True])
def test_the_main_module_is_made_anew_from_its_file(tmp_path, compiled):
    path = tmp_path / "program.py"
    path.write_text(MAIN)
    if compiled:
        path = py_compile.compile(path, cfile=tmp_path / "program.pyc")
    done = run([sys.executable, os.path.basename(path), "argument"], cwd=tmp_path)
    in_parent, in_child, exitcode = done.stdout.splitlines()
    assert exitcode == "0"
    assert in_parent.startswith("__main__ the documentation ")
    argv = [str(path), "argument"]
    cached = None if sys.version_info < (3, 15) else "nothing"
    assert in_child == f"__mp_main__ the documentation {path} '' {cached} None {argv}"


SLOW = {"pickle", "re", "runpy", "subprocess", "threading", "typing"}


def test_a_child_imports_nothing_slow_before_its_own_program(program):
    done = program(
        f"def child(): print(sorted(set(sys.modules) & {SLOW}), 'fastmp._newborn' in sys.modules)\n"
        "if __name__ == '__main__': p = fastmp.Process(target=child); p.start(); p.join()\n"
    )
    assert done.stdout == "[] True\n"


def test_a_program_without_a_guard(program):
    done = program("p = fastmp.Process(target=print, args=('ran',)); p.start(); p.join(); print(p.exitcode)")
    assert done.stdout == "1\n"
    assert "An attempt has been made to start a new process" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr
    assert "freeze_support()" in done.stderr


def test_a_start_method_that_is_set_without_a_guard(program):
    head = "import fastmp; fastmp.set_start_method('spawn')\n"
    done = program("p = fastmp.Process(target=print); p.start(); p.join(); print(p.exitcode)", head=head)
    assert done.stdout == "1\n"
    assert "the main module is to set it under `if __name__ == '__main__':`" in done.stderr


FROZEN = """#!{python}
import sys
sys.frozen, sys.executable = True, __file__  # as programs say that are one file
sys.path.insert(0, {folder!r})
import fastmp

def child(queue):
    queue.put((sys.argv, __name__))

if __name__ == "__main__":
    fastmp.freeze_support()
    fastmp.set_start_method("spawn")
    queue = fastmp.Queue()
    p = fastmp.Process(target=child, args=(queue,))
    p.start()
    print(queue.get(timeout=50))
    p.join()
    print(p.exitcode)
"""


def test_a_frozen_program(tmp_path):
    path = tmp_path / "frozen.py"
    path.write_text(FROZEN.format(python=sys.executable, folder=FOLDER))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    assert run([path, "argument"]).stdout == f"([{str(path)!r}, 'argument'], '__main__')\n0\n"


def test_freeze_support_does_nothing_else():
    assert fastmp.freeze_support() is None
    assert spawn.freeze_support() is None


def test_logging_is_set_up_as_in_the_parent(program):
    done = program(
        "from fastmp import util\n"
        "def child(): util.info('from the child'); util.debug('not shown')\n"
        "if __name__ == '__main__':\n"
        "    fastmp.log_to_stderr(util.INFO)\n"
        "    p = fastmp.Process(target=child, name='child'); p.start(); p.join()\n"
    )
    assert "[INFO/child] from the child\n" in done.stderr
    assert "not shown" not in done.stderr


# ---- arguments ------------------------------------------------------------------------------------------


def length(data, queue):
    queue.put(len(data))


def test_start_does_not_wait_for_the_child_to_read(ctx, start, gate):
    """gh-96953"""
    queue = ctx.SimpleQueue()
    start(length, bytes(50_000_000), queue)
    assert queue.empty()
    gate()
    assert queue.get() == 50_000_000


class Unloadable:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("cannot be loaded")


def test_an_argument_that_cannot_be_unpickled(ctx, finish, capfd):
    before = _core.arena_info()
    things = [ctx.Queue(), Unloadable()]
    child = ctx.Process(target=print, args=(things,))
    child.start()
    finish(child)
    assert child.exitcode == 1
    assert "ValueError: cannot be loaded" in capfd.readouterr().err
    del things, child
    assert _core.arena_info() == before


def test_an_argument_that_cannot_be_pickled(ctx):
    before = _core.arena_info()
    child = ctx.Process(target=print, args=(ctx.Lock(), sys._getframe()))
    with pytest.raises(TypeError, match="cannot pickle 'frame' object"):
        child.start()
    assert child.exitcode is None
    assert child not in fastmp.active_children()
    del child
    assert _core.arena_info() == before


def exist(things, names, queue):
    queue.put([name for name, thing in zip(names, things, strict=True) if type(thing).__name__ != name])
    queue.put(_core.arena_info()["objects"])


def test_objects_exist_until_both_have_let_go(ctx, finish):
    before = _core.arena_info()
    queue = ctx.Queue()
    things = [ctx.Lock(), ctx.RLock(), ctx.Semaphore(), ctx.BoundedSemaphore(), ctx.Condition(), ctx.Event()]
    things += [
        ctx.Barrier(2),
        ctx.Queue(),
        ctx.JoinableQueue(),
        ctx.SimpleQueue(),
        ctx.Value("i"),
        ctx.RawArray("i", 5),
    ]
    names = [type(thing).__name__ for thing in things]
    child = ctx.Process(target=exist, args=(things, names, queue))
    child.start()
    objects = _core.arena_info()["objects"]
    things.clear()  # the child has what it needs
    assert queue.get(timeout=DEADLINE) == []
    assert 0 < queue.get(timeout=DEADLINE) <= objects
    finish(child)
    assert child.exitcode == 0
    del queue, child
    assert _core.arena_info() == before


def tell_descriptors(queue):
    queue.put(sorted(map(int, os.listdir("/proc/self/fd"))))


def test_a_child_inherits_only_what_it_needs(ctx, start):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    queue, one = ctx.SimpleQueue(), ctx.SimpleQueue()
    start(tell_descriptors, queue)
    descriptors = queue.get()
    assert not {reader, writer} & set(descriptors)
    # The standard ones; the arena, the lines to the fork server and the tracker; the folder that is listed.
    assert len(descriptors) <= 3 + 3 + 1
    os.close(reader)
    os.close(writer)
    one.close()


def test_many_starts_leave_nothing(ctx, finish):
    before = os.listdir("/proc/self/fd"), _core.arena_info()
    for _ in range(10):
        children = [ctx.Process(target=int) for _ in range(3)]
        for child in children:
            child.start()
        finish(*children)
        assert [child.exitcode for child in children] == [0, 0, 0]
        for child in children:
            child.close()
    assert (os.listdir("/proc/self/fd"), _core.arena_info()) == before


def test_children_that_never_start_leave_nothing():
    before = os.listdir("/proc/self/fd"), _core.arena_info()
    for _ in range(2000):  # there are places for 1024 processes
        child = _core.expect()
        assert (child.owner > 0, child.pid) == (True, 0)
        del child
    assert (os.listdir("/proc/self/fd"), _core.arena_info()) == before


# ---- the end ----------------------------------------------------------------------------------------------


def test_a_child_that_is_ended_before_its_first_step(ctx, start, gate):
    before = _core.arena_info()
    for verb, sig in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        child = ctx.Process(target=print, args=(ctx.Queue(),))
        child.start()
        assert child.is_alive()
        getattr(child, verb)()
        child.join(DEADLINE)
        assert child.exitcode == -sig
        del child
    assert _core.arena_info() == before


ORPHAN = """
import os, fastmp
from fastmp import spawn
def child(): print("ran")
if __name__ == "__main__":
    spawn.set_executable({interpreter!r})
    fastmp.set_start_method("spawn")
    p = fastmp.Process(target=child)
    p.start()
    print(p.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_the_parent_is_killed_while_its_child_begins(gate, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(ORPHAN.format(interpreter=str(tmp_path / "interpreter")))
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as parent:
        handle = os.pidfd_open(int(parent.stdout.readline()))
        assert parent.wait(DEADLINE) == -signal.SIGKILL
        gate()
        assert select.select([handle], [], [], DEADLINE)[0]
        os.close(handle)


# ---- other arenas ------------------------------------------------------------------------------------------


def test_an_arena_is_attached_once():
    _core.Block(1)
    fd = os.dup(_core.arena_fd())
    with pytest.raises(RuntimeError):
        _core.attach(fd, 0)
    os.close(fd)


STRANGER = """
import pickle, sys
from fastmp import _core
_core.Block(1)
try:
    {use}
except RuntimeError as e:
    print(e)
"""


def refusal(use):
    return run([sys.executable, "-c", STRANGER.format(use=use)]).stdout


def test_a_block_of_another_program_is_refused():
    child, block = _core.expect(), _core.Block(100)
    ticket = block.give(child)
    assert refusal(f"_core.Block.attach({ticket})")


@pytest.mark.parametrize("make", ["Lock", "Condition", "Queue", "SimpleQueue", "Event"])
def test_handles_of_another_program_are_refused(ctx, make):
    thing = getattr(ctx, make)()
    _spawning.set_spawning_popen(types.SimpleNamespace(_child=_core.expect()))
    try:
        data = pickle.dumps(thing)
    finally:
        _spawning.set_spawning_popen(None)
    assert refusal(f"pickle.loads({data})")
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(thing)
