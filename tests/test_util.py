"""util: finalizers, and what else libraries import."""

import io
import os
import re
import sys

import pytest
from programs import run_python

from fastmp import util


def test_finalize_runs_once_when_its_object_dies():
    class Thing:
        pass

    thing, calls = Thing(), []
    finalizer = util.Finalize(thing, calls.append, args=(1,))
    assert finalizer.still_active()
    assert re.fullmatch(r"<Finalize object, callback=append, args=\(1,\)>", repr(finalizer))
    del thing
    assert calls == [1]
    assert not finalizer.still_active()
    assert repr(finalizer) == "<Finalize object, dead>"
    assert finalizer() is None
    assert calls == [1]


def test_finalize_checks_its_arguments():
    with pytest.raises(ValueError, match="Without object, exitpriority cannot be None"):
        util.Finalize(None, print)
    with pytest.raises(TypeError, match="must be None or int"):
        util.Finalize(None, print, exitpriority="high")


def test_finalize_returns_what_the_callback_returns():
    finalizer = util.Finalize(None, sorted, args=([2, 1],), kwargs={"reverse": True}, exitpriority=0)
    assert finalizer() == [2, 1]


def test_a_finalizer_belongs_to_the_process_that_made_it(report):
    calls = []
    finalizer = util.Finalize(None, calls.append, args=(1,), exitpriority=0)
    assert report(lambda: (finalizer(), calls)) == (None, [])
    finalizer()
    assert calls == [1]


@pytest.mark.start_methods("fork")  # they are not pickled
def test_fork_aware_lock_and_local(report):
    lock, local = util.ForkAwareThreadLock(), util.ForkAwareLocal()
    local.x = 1
    with lock:
        free, values = report(lambda: (lock.acquire(False), vars(local)))
    assert free is True
    assert values == {}
    assert local.x == 1


def test_temp_dir_is_removed_at_exit():
    done = run_python("from fastmp import util; print(util.get_temp_dir(), util.get_temp_dir())")
    folder, again = done.stdout.split()
    assert folder == again
    assert not os.path.exists(folder)


def test_temp_dir_is_shared_with_children_and_outlives_them(report):
    folder = util.get_temp_dir()
    assert report(util.get_temp_dir) == folder
    assert os.path.isdir(folder)


def test_abstract_addresses():
    assert util.abstract_sockets_supported
    answers = [util.is_abstract_socket_namespace(address) for address in ("\0x", b"\0x", "x", b"x", "", None)]
    assert answers == [True, True, False, False, False, False]
    with pytest.raises(TypeError, match="unrecognized"):
        util.is_abstract_socket_namespace(3)


def test_close_all_fds_except():
    done = run_python(
        "import os\n"
        "from fastmp import util\n"
        "kept, closed = os.dup(1), os.dup(1)\n"
        "util.close_all_fds_except([2, 0, kept, 1])\n"
        "print([os.path.exists(f'/proc/self/fd/{fd}') for fd in (0, 1, 2, kept, closed)])\n"
    )
    assert done.stdout == "[True, True, True, True, False]\n"


def test_spawnv_passfds():
    reader, writer = os.pipe()
    other = os.dup(writer)
    os.set_inheritable(other, True)
    code = f"import os; os.write({writer}, b'hello'); print(os.path.exists('/proc/self/fd/{other}'))"
    pid = util.spawnv_passfds(sys.executable, [sys.executable, "-c", f"{code}"], [writer, 1, 2])
    util.close_fds(writer, other)
    with open(reader, "rb") as file:
        assert file.read() == b"hello"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_flush_std_streams_of_any_kind(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    util._flush_std_streams()
