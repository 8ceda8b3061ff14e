"""What children print is in the cell's output before join() returns.

In a notebook's kernel `sys.stdout` is no file. What children that were not forked write to their descriptors
1 and 2 goes into pipes of ipykernel's, and a thread of the kernel's copies it from there into the output. An
ended child's last words may still be in such a pipe, or in that thread's hands, and what its parent prints
next would come before them, or its pieces between their lines.

They are in the output when the pipe is empty and the thread waits for more. Linux tells which threads do:
/proc/self/task/TID/syscall has the system call that a thread is blocked in, and its arguments. Where it does
not tell, the pipe is empty, at least.
"""

import array
import contextlib
import fcntl
import os
import termios
import time

__all__ = ["await_echo"]

_STREAMS = 1, 2
_PATIENCE = 0.5  # seconds, for other children may go on to write
_TURN = 0.0005  # seconds in which the thread gets on


def await_echo() -> None:
    """Wait until what has been written so far is in the output."""
    deadline = time.monotonic() + _PATIENCE
    for stream in _STREAMS:
        with contextlib.suppress(OSError):  # it is closed, or there is no /proc
            reader = _find_reader(stream)
            while reader is not None and not _has_read_all(reader) and time.monotonic() < deadline:
                time.sleep(_TURN)


def _find_reader(stream: int) -> int | None:
    """This process's descriptor of the other end, if the stream is a pipe."""
    pipe = os.readlink(f"/proc/self/fd/{stream}")
    if not pipe.startswith("pipe:"):
        return None
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it has just been closed
            if os.readlink(f"/proc/self/fd/{fd}") == pipe and not _is_writable(int(fd)):
                return int(fd)
    return None


def _is_writable(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _has_read_all(reader: int) -> bool:
    unread = array.array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, unread)
    return not unread[0] and any(_waits(task, reader) for task in os.listdir("/proc/self/task"))


def _waits(task: str, reader: int) -> bool:
    """Whether a thread is blocked in a call whose first argument is this descriptor, or may be."""
    try:
        with open(f"/proc/self/task/{task}/syscall") as file:
            call = file.read().split()
    except FileNotFoundError:  # the thread has ended, or the file is nowhere
        return not os.path.exists("/proc/self/syscall")
    except OSError:  # nobody may know
        return True
    return len(call) > 1 and int(call[1], 16) == reader
