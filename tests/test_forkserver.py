"""The start method forkserver: its children, the server's life, and who it talks to."""

import contextlib
import json
import os
import pickle
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest
from targets import send_result, sleep_long
from waiting import DEADLINE, becomes, join

import fastmp
from fastmp import _fork_server, connection, forkserver, popen_forkserver, popen_spawn_win32
from fastmp._launch import fork
from fastmp.forkserver import _forkserver

ctx = fastmp.get_context("forkserver")


def started(target, *args, method=ctx, **options):
    child = method.Process(target=target, args=args, **options)
    child.start()
    return child


def report(function, *args, method=ctx):
    """What `function` returns in a child."""
    reader, writer = method.Pipe(duplex=False)
    child = started(send_result, writer, function, args, method=method)
    writer.close()
    assert reader.poll(DEADLINE)
    result = reader.recv()
    reader.close()
    join(child)
    return result


def open_descriptors(pid="self"):
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(names)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def descriptors_of(server):
    """Those of a server whose children have ended: the last thing that it closes is a child's sentinel."""
    becomes(lambda: [name for name in open_descriptors(server) if "pidfd" in name], [])
    return open_descriptors(server)


def ended(pidfd):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(DEADLINE * 1000))


@pytest.fixture
def server():
    """The pid of a server that has done its preloading."""
    join(started(len, ""))
    return _forkserver._forkserver_pid


@pytest.fixture
def fresh():
    """The next use starts a server, and the settings are as at the beginning; so they are afterwards."""

    def reset():
        _forkserver._stop()
        forkserver.set_forkserver_preload(["__main__"])

    reset()
    yield
    reset()


@pytest.fixture
def sleeper():
    child = started(sleep_long)
    yield child
    if not child._closed:
        child.kill()
        child.join(DEADLINE)


@pytest.fixture
def program(tmp_path):
    """A function that runs a program from a file in a folder of its own; what it prints as JSON, by line."""

    def run(code, *args, command=None, **options):
        (tmp_path / "program.py").write_text("import fastmp, json, os, sys\n" + textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, *(command or ["program.py"]), *args],
            cwd=tmp_path, capture_output=True, text=True, timeout=2 * DEADLINE, **options
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run.errors = done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


# ---- children ---------------------------------------------------------------------------------------


def test_names():
    assert forkserver.__all__ == [
        "connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"
    ]  # fmt: skip
    assert popen_forkserver.Popen.method == "forkserver"
    assert popen_spawn_win32.Popen.method == "spawn"
    assert forkserver.get_inherited_fds() is None


@pytest.mark.parametrize("code, exitcode", [(None, 0), (3, 3), (-1, 255), (256, 0)])
def test_exit_codes(code, exitcode):
    join(started(sys.exit, code), exitcode)


def test_os_exit():
    join(started(os._exit, 9), 9)


@pytest.mark.parametrize("verb, sig", [("kill", signal.SIGKILL), ("terminate", signal.SIGTERM)])
def test_signals(sleeper, verb, sig):
    getattr(sleeper, verb)()
    join(sleeper, -sig)
    getattr(sleeper, verb)()  # nobody is there any more


def wait_for_interrupt(ready):
    try:
        ready.set()
        sleep_long()
    except KeyboardInterrupt:
        sys.exit(5)


def test_interrupt():
    ready = ctx.Event()
    child = started(wait_for_interrupt, ready)
    assert ready.wait(DEADLINE)
    child.interrupt()
    join(child, 5)


def test_life(sleeper):
    assert sleeper.is_alive()
    assert sleeper.exitcode is None
    assert sleeper in fastmp.active_children()
    sleeper.join(0.01)
    assert sleeper.is_alive()
    sleeper.kill()
    assert connection.wait([sleeper.sentinel], DEADLINE)
    assert sleeper.exitcode == -signal.SIGKILL  # as soon as the sentinel says so
    assert not sleeper.is_alive()
    assert sleeper not in fastmp.active_children()
    sleeper.close()
    assert repr(sleeper).endswith("closed>")


def test_popen_keeps_what_libraries_use(sleeper):
    popen = sleeper._popen
    assert popen.method == "forkserver"
    assert popen.pid == sleeper.pid
    assert popen.sentinel == sleeper.sentinel
    assert popen.returncode is None
    assert popen.poll() is None
    assert popen.wait(0) is None
    popen._send_signal(signal.SIGKILL)
    assert popen.poll(0) == -signal.SIGKILL == popen.returncode
    assert callable(popen.finalizer)


def test_threads_may_join_the_same_process(sleeper):
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(sleeper._popen.wait(DEADLINE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    sleeper.kill()
    for thread in threads:
        thread.join(DEADLINE)
    assert codes == [-signal.SIGKILL] * 4


def about_me():
    me, parent = fastmp.current_process(), fastmp.parent_process()
    method = fastmp.get_start_method()
    return os.getpid(), me.name, bytes(me.authkey), method, parent.pid, parent.is_alive(), os.getppid()


def test_what_a_child_knows(server):
    pid, name, *others = report(about_me)
    assert pid not in (server, os.getpid())
    assert name.startswith("ForkServerProcess-")
    authkey = bytes(fastmp.current_process().authkey)
    assert others == [authkey, "forkserver", os.getpid(), True, server]


def read_stdin():
    return sys.stdin.read(), os.read(0, 10)


def test_standard_input_is_empty():
    assert report(read_stdin) == ("", b"")


def random_number():
    return random.random()


def test_random_numbers_differ():
    assert len({report(random_number) for _ in range(3)}) == 3


def test_a_large_argument():
    data = os.urandom(1 << 20)
    assert report(bytes, data) == data


def write_and_close(*files):
    for file in files:
        file.sendall(str(file.fileno()).encode())
        file.close()


def test_descriptors():
    ends = [socket.socketpair() for _ in range(20)]
    child = started(write_and_close, *(theirs for _, theirs in ends))
    for _, theirs in ends:
        theirs.close()
    for ours, _ in ends:
        ours.settimeout(DEADLINE)
        assert int(ours.recv(10)) > 2
        assert ours.recv(10) == b""
        ours.close()
    join(child)


def test_too_many_descriptors():
    sockets = [sock for _ in range(150) for sock in socket.socketpair()]
    with pytest.raises(ValueError, match="too many fds"):
        started(len, sockets)
    for sock in sockets:
        sock.close()


def add(queue, lock, value):
    with lock:
        value.value += 1
    queue.put(os.getppid())


def test_shared_objects(server):
    queue, lock, value = ctx.Queue(), ctx.Lock(), ctx.Value("i", 0)
    children = [started(add, queue, lock, value) for _ in range(10)]
    assert {queue.get(timeout=DEADLINE) for _ in children} == {server}
    for child in children:
        join(child)
    assert value.value == 10
    queue.close()


def test_what_cannot_be_pickled_leaves_nothing(server):
    with pytest.raises(Exception, match="pickle"):
        started(len, threading.Lock())
    before = open_descriptors(), fastmp._core.arena_info()["owners"]
    for _ in range(20):
        with pytest.raises(Exception, match="pickle"):
            started(len, threading.Lock())
    assert (open_descriptors(), fastmp._core.arena_info()["owners"]) == before


class Unlucky:
    def __reduce__(self):
        return fail, ()


def fail():
    raise RuntimeError("on purpose")


def test_what_cannot_be_unpickled_is_reported(program):
    printed = program("""
        class Unlucky:
            def __reduce__(self):
                return int, ("no number",)
        if __name__ == "__main__":
            p = fastmp.get_context("forkserver").Process(target=len, args=(Unlucky(),))
            p.start(); p.join(); print(p.exitcode)
    """)
    assert printed == [1]
    assert "ValueError: invalid literal" in program.errors


def test_output_is_that_of_fork(program):
    code = """
        def work():
            print(json.dumps("from the child")); raise RuntimeError("on purpose")
        if __name__ == "__main__":
            sys.stdout.write(json.dumps("from the parent") + "\\n")
            p = fastmp.get_context(sys.argv[1]).Process(target=work, name="Worker")
            p.start(); p.join(); print(p.exitcode)
    """
    printed, errors = [], []
    for method in ("fork", "forkserver"):
        printed.append(program(code, method))
        errors.append(program.errors.splitlines())
    assert printed[0] == printed[1] == ["from the parent", "from the child", 1]
    assert errors[0][0] == errors[1][0] == "Process Worker:"
    assert errors[0][-2:] == errors[1][-2:]


# ---- the family -------------------------------------------------------------------------------------


def descend(methods):
    """The servers that generations of children are forked by."""
    if not methods:
        return [os.getppid()]
    return [os.getppid(), *report(descend, methods[1:], method=fastmp.get_context(methods[0]))]


@pytest.mark.parametrize("between", ["fork", "spawn", "forkserver"])
def test_one_server_for_the_family(server, between):
    parents = report(descend, [between, "forkserver"])
    assert parents[0] == parents[2] == server


def test_a_forked_child_uses_the_server(server):
    assert report(descend, ["forkserver"], method=fastmp.get_context("fork"))[1] == server


def await_parent(writer):
    writer.send(fastmp.parent_process().is_alive())
    fastmp.parent_process().join(DEADLINE)
    writer.send(fastmp.parent_process().is_alive())


def start_and_sleep(writer):
    started(await_parent, writer)
    sleep_long()


def test_the_end_of_the_parent_is_seen():
    reader, writer = ctx.Pipe(duplex=False)
    child = started(start_and_sleep, writer)
    writer.close()
    assert reader.poll(DEADLINE)
    assert reader.recv() is True
    child.kill()
    assert reader.poll(DEADLINE)
    assert reader.recv() is False
    reader.close()
    join(child, -signal.SIGKILL)


# ---- the server -------------------------------------------------------------------------------------


def test_descriptors_stay_few(server):
    before = open_descriptors(), descriptors_of(server)
    for _ in range(5):
        children = [started(len, "") for _ in range(10)]
        for child in children:
            join(child).close()
    assert (open_descriptors(), descriptors_of(server)) == before


def test_a_child_has_no_descriptors_of_the_server(server, sleeper):
    listing = report(open_descriptors)
    assert not [name for name in listing if "eventpoll" in name]
    assert len([name for name in listing if "pidfd" in name]) <= 1  # its parent's sentinel
    assert len([name for name in listing if name.startswith("socket:")]) <= 1  # the end of report()'s pipe


def inheritable():
    fds = [int(fd) for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in fds if fd > 2 and os.get_inheritable(fd)]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_programs_that_a_child_runs_inherit_nothing(method):
    assert report(inheritable, method=fastmp.get_context(method)) == []


def test_ctrl_c_during_a_long_import(fresh, tmp_path, monkeypatch):
    (tmp_path / "long_module.py").write_text("import time; time.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    forkserver.set_forkserver_preload(["long_module"], on_error="fail")
    timer = threading.Timer(0.2, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        started(len, "")
    timer.join(DEADLINE)


def test_restart_after_kill(server):
    join(started(len, ""))
    os.kill(server, signal.SIGKILL)
    child = join(started(len, ""))  # in the middle of its end
    assert child.exitcode == 0
    assert _forkserver._forkserver_pid != server


def test_a_request_that_fails_is_repeated(server, monkeypatch):
    """The server dies after the client has looked whether it lives."""
    alive, looks = _forkserver._is_alive, []

    def look(milliseconds=0):
        looks.append(milliseconds)
        if len(looks) == 1:
            os.kill(server, signal.SIGKILL)
            return True
        return alive(milliseconds)

    monkeypatch.setattr(_forkserver, "_is_alive", look)
    join(started(len, ""))
    assert len(looks) > 1
    assert _forkserver._forkserver_pid != server


def test_a_server_that_dies_while_it_forks_is_noticed():
    """Its end of the conversation lives on in a child that waits to be told to begin."""
    ours, the_child_s = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    with ours, the_child_s:
        threading.Timer(0.05, os.close, [reader]).start()
        with pytest.raises(EOFError):
            forkserver._await_reply(ours, writer)
        the_child_s.send(b"pid")
        forkserver._await_reply(ours, writer)  # it had told already
    os.close(writer)


@pytest.mark.parametrize("code, exitcode", [("sys.exit(3)", 3), ("os._exit(3)", 255)])
def test_children_outlive_a_killed_server(server, code, exitcode):
    go_on = ctx.Event()
    child = started(end_when_told, go_on, code)
    os.kill(server, signal.SIGKILL)
    forkserver._forkserver._await_end()
    assert child.is_alive()
    child.join(0.01)
    assert child.exitcode is None
    go_on.set()
    join(child, exitcode)  # of one that has not said how it ends nobody knows
    join(started(len, ""))


def end_when_told(event, code):
    event.wait(DEADLINE)
    exec(code)


def file_limits():
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def test_limits_of_children_are_those_of_their_parent():
    assert report(file_limits) == file_limits()


def end_unheard():
    """A child that has ended, as its client could know by now."""
    child = started(len, "")
    assert connection.wait([child.sentinel, child._popen._line._connection], DEADLINE)
    assert child._popen._line._connection.poll(DEADLINE)
    return child


def test_the_pid_is_the_childs_until_its_client_has_heard_of_the_end(server):
    child = end_unheard()
    assert children_of(server) == [str(child.pid)]
    os.kill(child.pid, signal.SIGUSR1)
    child.terminate()
    join(child)
    becomes(lambda: children_of(server), [])


def test_a_child_killed_before_it_began(server, monkeypatch):
    """What it was told is not taken for what its client has heard."""
    begin = forkserver.Line.begin

    def kill_first(line):
        (pid,) = children_of(server)
        os.kill(int(pid), signal.SIGKILL)
        begin(line)

    with monkeypatch.context() as patch:
        patch.setattr(forkserver.Line, "begin", kill_first)
        child = end_unheard()
    assert children_of(server) == [str(child.pid)]
    child.join(DEADLINE)
    assert child.exitcode == -signal.SIGKILL
    becomes(lambda: children_of(server), [])


def test_who_looks_for_children_hears_of_the_end(server):
    child = end_unheard()
    assert child not in fastmp.active_children()
    becomes(lambda: children_of(server), [])


CLIENT_THAT_IS_KILLED = """
import fastmp, os, signal, sys
if __name__ == "__main__":
    child = fastmp.get_context("forkserver").Process(target=len, args=("",))
    child.start()
    assert child._popen._line._connection.poll(60)
    if fork := os.fork():
        print(fastmp.forkserver._forkserver._forkserver_pid, child.pid, fork, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # it has copies of all that was open
"""


def test_a_client_that_was_killed_hears_nothing(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(CLIENT_THAT_IS_KILLED)
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as client:
        server, child, fork = map(int, client.stdout.readline().split())
        assert client.wait(DEADLINE) == -signal.SIGKILL
        try:
            becomes(lambda: str(child) in children_of(server), False)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_ctrl_c_does_not_end_the_server(server):
    os.kill(server, signal.SIGINT)
    assert report(os.getppid) == server


def test_the_child_does_not_begin_without_its_parent(server, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    event = ctx.Event()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(forkserver.Line, "begin", interrupted)
        started(event.set)
    becomes(lambda: children_of(server), [])
    assert not event.is_set()
    join(started(event.set))
    assert event.is_set()


@pytest.mark.parametrize("end", ["sys.exit()", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_the_server_ends_with_its_family(end, tmp_path):
    code = f"""
        import fastmp, os, sys
        from fastmp.forkserver import _forkserver
        p = fastmp.get_context("forkserver").Process(target=len, args=("",)); p.start(); p.join()
        print(_forkserver._forkserver_pid, flush=True)
        sys.stdin.readline()
        {end}
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as main:
        pidfd = os.pidfd_open(int(main.stdout.readline()))
        main.stdin.write("\n")
        main.stdin.flush()
        assert ended(pidfd)
        os.close(pidfd)


def test_a_long_temporary_folder_does_not_matter(program, tmp_path):
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    printed = program(
        """
        def work(): print(json.dumps("here"))
        if __name__ == "__main__":
            p = fastmp.get_context("forkserver").Process(target=work); p.start(); p.join()
        """,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert printed == ["here"]
    assert not list(folder.iterdir())


def test_long_arguments_of_the_program(program):
    """More than one argument of a command may hold, and not all of it is UTF-8."""
    printed = program(
        """
        def work(): print(json.dumps([len(sys.argv), sys.argv[-1] == os.fsdecode(b"\\xff")]))
        if __name__ == "__main__":
            sys.path += [f"/nowhere/{n}" for n in range(20000)]
            p = fastmp.get_context("forkserver").Process(target=work); p.start(); p.join()
        """,
        *["x" * 50000] * 10, b"\xff"
    )  # fmt: skip
    assert printed == [[12, True]]


# ---- preloading -------------------------------------------------------------------------------------

TELL = """
import os, sys
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "log"), "a") as log:
    log.write(f"{__name__} ")
"""

START_THREE = """
if __name__ == "__main__":
    fastmp.set_forkserver_preload(PRELOAD)
    for _ in range(3):
        p = fastmp.get_context("forkserver").Process(target=work)
        p.start(); p.join()
"""


def test_modules_are_loaded_once(program, tmp_path):
    (tmp_path / "extra.py").write_text(TELL)
    code = "PRELOAD = ['extra', 'missing']\ndef work(): print(json.dumps('extra' in sys.modules))\n"
    assert program(code + START_THREE) == [True] * 3
    assert (tmp_path / "log").read_text().split() == ["extra"]
    assert program.errors == ""


@pytest.mark.parametrize("command", [None, ["-m", "program"]])
def test_the_main_module_is_loaded_once(program, tmp_path, command):
    code = TELL + "def work(): print(json.dumps(__name__))\nPRELOAD = ['__main__']\n" + START_THREE
    assert program(code, command=command) == ["__mp_main__"] * 3
    assert (tmp_path / "log").read_text().split() == ["__main__", "__mp_main__"]


def test_the_main_module_is_not_loaded_if_others_are_wanted(program, tmp_path):
    code = TELL + "def work(): print(json.dumps(__name__))\nPRELOAD = []\n" + START_THREE
    assert program(code) == ["__mp_main__"] * 3
    assert (tmp_path / "log").read_text().split() == ["__main__", *["__mp_main__"] * 3]


def test_little_is_loaded_but_what_the_program_loads(program):
    """Each module has its pages, which every fork copies, and some have something to do in each child."""
    (printed,) = program("""
        def work(): print(json.dumps(sorted(HEAVY & set(sys.modules))))
        HEAVY = {"threading", "random", "logging", "pickle", "typing", "hashlib", "traceback", "subprocess"}
        if __name__ == "__main__":
            p = fastmp.get_context("forkserver").Process(target=work)
            p.start(); p.join()
    """)
    assert printed == []


REHEARSING = """
from fastmp import _newborn
main, rehearsed = _newborn._main, []

def rehearse(*args):
    rehearsed.append(os.getpid())
    {outcome}

def work():
    print(json.dumps([len(rehearsed), rehearsed[-1] == os.getpid()]))

if __name__ == "__main__":
    p = fastmp.get_context("forkserver").Process(target=work)
    p.start(); p.join()
    print(p.exitcode)
else:
    _newborn._main = rehearse
"""


def test_the_server_rehearses(program):
    assert program(REHEARSING.format(outcome="return main(*args)")) == [[fork.TIMES + 1, True], 0]


def test_a_rehearsal_of_the_server_that_fails_is_told_by_the_child(program):
    assert program(REHEARSING.format(outcome="raise ValueError")) == [1]
    assert program.errors.count("Traceback") == 1


def test_output_of_preloaded_modules_is_printed_once(program, tmp_path):
    (tmp_path / "extra.py").write_text("import sys; sys.stdout.write('1\\n')\n")
    code = "def work(): print(2)\nPRELOAD = ['extra']\n" + START_THREE
    assert program(code) == [1, 2, 2, 2]


def test_a_missing_guard_is_told_by_the_child(program):
    printed = program("""
        def work(): pass
        p = fastmp.get_context("forkserver").Process(target=work)
        p.start(); p.join()
        if __name__ == "__main__": print(p.exitcode)
    """)
    assert printed == [1]
    assert program.errors.count("Traceback") == 1
    assert "An attempt has been made to start a new process" in program.errors


@pytest.mark.parametrize("modules", [[1], ["os", 2], [None]])
def test_names_of_modules_are_strings(modules):
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        ctx.set_forkserver_preload(modules)


def test_on_error_is_checked():
    with pytest.raises(ValueError, match="on_error must be"):
        forkserver.set_forkserver_preload([], on_error="complain")


def test_preloading_that_fails(fresh, tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("class Special(Exception): pass\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, error in (("missing_module", ModuleNotFoundError), ("broken_module", ZeroDivisionError)):
        forkserver.set_forkserver_preload(["os", name], on_error="fail")
        for _ in range(2):
            with pytest.raises(error) as caught:
                started(len, "")
            assert name in caught.value.__notes__[0]
    forkserver.set_forkserver_preload(["os"], on_error="fail")
    join(started(len, ""))


def test_preloading_that_fails_with_something_unpicklable(fresh, tmp_path, monkeypatch):
    (tmp_path / "odd_module.py").write_text(
        "class Odd(Exception):\n    def __init__(self, a, b): super().__init__('odd')\nraise Odd(1, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    forkserver.set_forkserver_preload(["odd_module"], on_error="fail")
    with pytest.raises(RuntimeError, match="odd"):
        started(len, "")


def test_preloading_that_warns(program):
    code = """
        def work(): print(1)
        if __name__ == "__main__":
            fastmp.forkserver.set_forkserver_preload(["missing"], on_error="warn")
            p = fastmp.get_context("forkserver").Process(target=work); p.start(); p.join()
    """
    assert program(code, command=["-W", "always::ImportWarning", "program.py"]) == [1]
    assert "ImportWarning: Failed to preload module 'missing': ModuleNotFoundError" in program.errors


# ---- strangers --------------------------------------------------------------------------------------


def visit():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(_forkserver._forkserver_address)
    sock.settimeout(DEADLINE)
    return sock


def turned_away(sock):
    with sock:
        try:
            return sock.recv(100) == b""
        except ConnectionResetError:  # it did not even read what we sent
            return True


def test_strangers_are_turned_away(server):
    before = descriptors_of(server)
    short = visit()
    short.send(b"hello")
    assert turned_away(short)
    guess = visit()
    guess.send(bytes(forkserver.NONCE_BYTES))
    assert len(guess.recv(100)) == forkserver.NONCE_BYTES + forkserver.PROOF_BYTES
    with open(os.devnull) as file:
        request = pickle.dumps((1, (1, 2, 3, 0), 1))
        socket.send_fds(guess, [bytes(forkserver.PROOF_BYTES) + request], [file.fileno()])
    assert turned_away(guess)
    gone = visit()
    gone.send(bytes(forkserver.NONCE_BYTES))
    gone.close()
    becomes(lambda: open_descriptors(server), before)
    assert report(os.getppid) == server


def test_a_proof_is_good_for_one_conversation(server):
    first, second = visit(), visit()
    nonces = forkserver._greet(first, _forkserver._forkserver_authkey)
    request = pickle.dumps((0, None, 0))
    proof = forkserver._prove(_forkserver._forkserver_authkey, b"client", nonces, request)
    first.close()
    forkserver._greet(second, _forkserver._forkserver_authkey)
    second.send(proof + request)
    assert turned_away(second)


def test_an_impostor_gets_nothing(server, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))
        listener.listen()
        monkeypatch.setattr(_forkserver, "_forkserver_address", listener.getsockname())
        got = []

        def serve():
            sock, _ = listener.accept()
            with sock:
                sock.recv(100)
                sock.send(bytes(forkserver.NONCE_BYTES + forkserver.PROOF_BYTES))
                got.append(sock.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(fastmp.AuthenticationError):
            started(len, "")
        thread.join(DEADLINE)
    assert got == [b""]


def test_silent_visitors_do_not_lock_others_out(server):
    visitors = [visit() for _ in range(2 * _fork_server.MOST_GUESTS)]
    assert report(os.getppid) == server
    for sock in visitors:
        sock.close()


def visit_as_nobody():
    os.setuid(65534)
    return turned_away(visit())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_other_users_are_turned_away(server):
    assert report(visit_as_nobody, method=fastmp.get_context("fork"))
