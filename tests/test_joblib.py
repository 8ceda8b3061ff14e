"""joblib's default backend, loky, under install(): it takes queues, processes and the tracker apart."""

import contextlib
import os
import select
import subprocess
import sys

import pytest
from programs import start_group

pytest.importorskip("joblib")

DEADLINE = 30

PROGRAM = """
import fastmp; fastmp.install()
from joblib import Parallel, delayed

def square(x):
    return x * x

def unlucky(x):
    if x == 1:
        raise KeyError(x)

if __name__ == "__main__":
    print(Parallel(n_jobs=2)(delayed(square)(x) for x in range(10)))
    try:
        Parallel(n_jobs=2)(delayed(unlucky)(x) for x in range(2))
    except KeyError as e:
        print("KeyError", e)
    import multiprocessing
    print(multiprocessing is fastmp)
"""


def left_over(group):
    """The processes of a group that do not end by themselves."""
    poll = select.poll()
    running = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(int(pid)) == group:
                fd = os.pidfd_open(int(pid))
                running[fd] = pid
                poll.register(fd, select.POLLIN)
    while running and (ended := poll.poll(DEADLINE * 1000)):
        for fd, _ in ended:
            poll.unregister(fd)
            os.close(fd)
            del running[fd]
    return list(running.values())


def test_parallel_with_its_default_backend(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "LOKY_MAX_CPU_COUNT": "2"}
    child = start_group(script, env=environment)
    out, err = child.communicate(timeout=120)
    assert err == ""
    assert out.splitlines() == ["[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]", "KeyError 1", "True"]
    assert child.returncode == 0
    assert not left_over(child.pid)


def test_the_tracker_serves_the_standard_library_s_protocol(tmp_path):
    code = """
import os, sys, time
from fastmp import resource_tracker as rt
fd = rt.getfd()
assert rt.getfd() == fd == rt._resource_tracker._fd
assert rt._resource_tracker._check_alive()
open("/dev/shm/fastmp-test-1", "w").close()
open("/dev/shm/fastmp-test-2", "w").close()
rt.register("/fastmp-test-1", "shared_memory")
os.write(fd, b"REGISTER:/fastmp-test-2:shared_memory\\n")
os.write(fd, b"PROBE:0:noop\\n")
rt.register("/gone", "shared_memory"); rt.unregister("/gone", "shared_memory")
rt.register("li\\nne", "dummy"); rt.unregister("li\\nne", "dummy")
rt._resource_tracker._stop()
assert rt._resource_tracker._exitcode == 1, rt._resource_tracker._exitcode
assert not os.path.exists("/dev/shm/fastmp-test-1") and not os.path.exists("/dev/shm/fastmp-test-2")
rt.ensure_running()
rt._resource_tracker._stop()
assert rt._resource_tracker._exitcode == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "There appear to be 2 leaked shared_memory objects" in done.stderr
