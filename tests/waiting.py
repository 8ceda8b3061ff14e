"""Waiting: for a condition, for the end of a child, for an interruption."""

import signal
import time

import pytest
from targets import DEADLINE


class Interruption(Exception):
    """What handlers of signals raise."""


def wait_until(condition):
    """Look again and again: nobody tells."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def becomes(condition, value):
    """Look again and again until a function returns the value."""
    until = time.monotonic() + DEADLINE
    while (found := condition()) != value and time.monotonic() < until:
        time.sleep(0.01)
    assert found == value, f"{found!r} does not become {value!r}"


def join(child, exitcode=0):
    """Wait for the end of a child and look at its exit code."""
    child.join(DEADLINE)
    assert child.exitcode == exitcode, child
    return child


def interrupted(*calls):
    """Each of the calls blocks until a signal handler raises, and then raises that."""

    def handle(signum, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, handle)
    try:
        for call in calls:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(KeyboardInterrupt):
                call()
    finally:
        signal.signal(signal.SIGALRM, old)
