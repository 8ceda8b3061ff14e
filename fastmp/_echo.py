"""What children print is in the cell's output before join() returns.

In a notebook's kernel `sys.stdout` is no file. What children that were not forked write to their descriptors
1 and 2 goes into pipes of ipykernel's, and a thread of the kernel's copies it from there into the output. An
ended child's last words may still be in such a pipe, and what its parent prints next would come before them,
or its pieces between their lines.
"""

import array
import fcntl
import termios
import time

_STREAMS = 1, 2
_PATIENCE = 0.2  # seconds, for other children may go on to write
_TURN = 0.001  # seconds in which the thread gets on


def await_echo() -> None:
    """Wait until what has been written so far is in the output."""
    deadline = time.monotonic() + _PATIENCE
    while any(map(_unread, _STREAMS)) and time.monotonic() < deadline:
        time.sleep(_TURN)
    time.sleep(_TURN)  # it has read all, and now writes it


def _unread(pipe: int) -> int:
    """The bytes in a pipe; none, if the descriptor is of another kind."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(pipe, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]
