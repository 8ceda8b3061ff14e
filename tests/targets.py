"""What children of tests run and are sent. Apart, since a new process imports it without pytest."""

import time

DEADLINE = 30  # seconds in which anything must have happened


def send_result(writer, function, args):
    """Send what the function returns, or the exception that it raises."""
    try:
        result = function(*args)
    except Exception as e:
        result = e
    writer.send(result)


def sleep_long(*_):
    """In turns, for one that begins right after Python looked for signals is not interrupted by them."""
    end = time.monotonic() + 10 * DEADLINE
    while time.monotonic() < end:
        time.sleep(0.05)


def wait_for(event):
    assert event.wait(DEADLINE)


class Unwilling:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return fail, ()


def fail():
    raise KeyError("not today")
