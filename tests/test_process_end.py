"""Processes: how they end, and what is done at the end."""

import atexit
import os
import sys
import threading

import pytest
from programs import run_python
from waiting import DEADLINE, join

from fastmp import util


@pytest.mark.parametrize(
    "code, exitcode", [(None, 0), (0, 0), (1, 1), (255, 255), (-1, 255), (256, 0), (True, 1)]
)
def test_exit_with_a_number(code, exitcode, ctx):
    child = ctx.Process(target=sys.exit, args=(code,))
    child.start()
    join(child, exitcode)


def test_exit_with_a_huge_number(ctx):
    child = ctx.Process(target=sys.exit, args=(1 << 70,))
    child.start()
    join(child, 0)


def test_exit_with_a_text(ctx, child_output):
    child = ctx.Process(target=sys.exit, args=("no such thing",))
    child.start()
    join(child, 1)
    assert child_output.readouterr().err == "no such thing\n"


def test_os_exit(ctx):
    child = ctx.Process(target=os._exit, args=(9,))
    child.start()
    join(child, 9)


def fail():
    raise RuntimeError("on purpose")


def test_exception_prints_a_traceback(ctx, child_output):
    child = ctx.Process(target=fail, name="Unlucky")
    child.start()
    join(child, 1)
    err = child_output.readouterr().err
    assert err.startswith("Process Unlucky:\nTraceback (most recent call last):\n")
    assert "in fail" in err
    assert err.endswith("RuntimeError: on purpose\n")


def test_output_is_flushed(start_method):
    done = run_python(
        "import fastmp, sys\n"
        "def f(): sys.stdout.write('from the child; ')\n"
        "sys.stdout.write('from the parent; ')\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n",
        start_method=start_method,
    )
    assert done.stdout == "from the parent; from the child; "


def test_a_broken_stdout_does_not_let_the_child_escape(start_method):
    done = run_python(
        "import fastmp, os, sys\n"
        "def f():\n"
        "    reader, writer = os.pipe(); os.close(reader)\n"
        "    sys.stdout = open(writer, 'w'); sys.stdout.write('lost')\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n"
        "print('once', p.exitcode)\n",
        start_method=start_method,
    )
    assert done.stdout == "once 1\n"


def test_finalizers_run_in_the_order_of_their_priority(ctx, child_output):
    def child():
        for priority in (1, 10, -10, 1):
            util.Finalize(None, print, args=(priority,), exitpriority=priority)
        atexit.register(print, "atexit", flush=True)
        kept.append(util.Finalize(kept, print, args=("never",)))

    class Kept(list):
        pass

    kept = Kept()
    parent = util.Finalize(kept, print, args=("the parent's",), exitpriority=3)
    finish_started(ctx.Process(target=child))
    assert child_output.readouterr().out.split() == ["10", "1", "1", "-10", "atexit"]
    assert parent.still_active()
    parent.cancel()


def finish_started(child):
    child.start()
    return join(child)


def test_finalizer_that_raises_is_reported(ctx, child_output):
    def child():
        util.Finalize(None, fail, exitpriority=2)
        util.Finalize(None, print, args=("still runs",), exitpriority=1)

    finish_started(ctx.Process(target=child))
    out, err = child_output.readouterr()
    assert out == "still runs\n"
    assert "RuntimeError: on purpose" in err


def test_handlers_of_the_parent_do_not_run_in_the_child(start_method):
    done = run_python(
        "import atexit, fastmp\natexit.register(print, 'once')\np = fastmp.Process(); p.start(); p.join()\n",
        start_method=start_method,
    )
    assert done.stdout == "once\n"


@pytest.mark.start_methods("fork")  # others inherit nothing to be freshened
def test_register_after_fork(report):
    class Connection:
        state = "inherited"

    here = Connection()
    util.register_after_fork(here, lambda obj: setattr(obj, "state", "fresh"))
    assert report(lambda: here.state) == "fresh"
    assert here.state == "inherited"


def test_threads_of_the_child_are_waited_for(ctx, child_output):
    def child():
        go = threading.Event()
        threading.Thread(target=lambda: (go.wait(DEADLINE), print("the thread"))).start()
        go.set()

    finish_started(ctx.Process(target=child))
    assert child_output.readouterr().out == "the thread\n"


def test_is_exiting(report):
    assert util.is_exiting() is False
    assert report(util.is_exiting) is False


EXIT = r"""
import fastmp, sys, time
def slow(writer):
    with reader: pass
    print("child runs", flush=True)
    writer.close()
    time.sleep({seconds})
    print("child ends", flush=True)
reader, writer = fastmp.Pipe(False)
p = fastmp.Process(target=slow, args=(writer,), daemon={daemon})
p.start()
writer.close()
try: reader.recv()
except EOFError: print("parent ends", flush=True)
"""


def test_children_are_joined_at_exit(start_method):
    done = run_python(EXIT.format(seconds=0.3, daemon=False), start_method=start_method)
    assert done.stdout.split("\n") == ["child runs", "parent ends", "child ends", ""]


def test_daemons_are_terminated_at_exit(start_method):
    done = run_python(EXIT.format(seconds=10 * DEADLINE, daemon=True), start_method=start_method)
    assert done.stdout.split("\n") == ["child runs", "parent ends", ""]
