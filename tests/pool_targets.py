"""What workers of pools run in the tests. Apart, since a new process imports it without pytest."""

import os
import pickle
import signal
import sys
import threading
import time

from targets import DEADLINE, sleep_long

import fastmp

LOCK = threading.Lock()  # which nothing can pickle
UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError)


def square(x):
    return x * x


def add(x, y=0):
    return x + y


def pid_of_worker(_=None):
    return os.getpid()


def name_of_worker():
    process = fastmp.current_process()
    return process.name, process.daemon


def fail_at_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def wait_at_one(x_and_gate):
    x, gate = x_and_gate
    if x == 1:
        assert gate.wait(DEADLINE)
    return x


def raise_it(e):
    raise e


def end_process(code):
    os._exit(code)


def kill_self(sig=signal.SIGKILL):
    os.kill(os.getpid(), sig)
    time.sleep(10 * DEADLINE)


def kill_self_at_five(x):
    if x == 5:
        kill_self()
    return x


def say_and_sleep(pids):
    pids.put(os.getpid())
    sleep_long()


def wait_for(event, value=None):
    assert event.wait(DEADLINE)
    return value


def of_event(x):
    return wait_for(shared["event"], x)


shared = {}


def share(name, value):
    """What an initializer may do: tasks of the worker find the value in `shared`."""
    shared[name] = value


def lambda_result(_=None):
    return lambda: 0


class Unlucky:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return _no_unpickling, ("result",)


def _no_unpickling(what):
    raise RuntimeError(f"no unpickling of this {what}")


def unlucky(_=None):
    return Unlucky()


class NeedsTwo(Exception):
    """The classic: an exception whose arguments are not those of its class."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def raise_needs_two():
    raise NeedsTwo(1, 2)


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __reduce__(self):
        raise RuntimeError("no pickle")


def no_repr():
    return NoRepr()


class ExitsInReduce:
    def __reduce__(self):
        sys.exit(5)


def exits_in_reduce():
    return ExitsInReduce()


class Custom(BaseException):
    pass
