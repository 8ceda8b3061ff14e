"""Programs in interpreters of their own."""

import contextlib
import os
import signal
import subprocess
import sys

from processes import session_members
from targets import DEADLINE
from waiting import becomes


def run_python(code, *, start_method=None, check=True, **options):
    """Run a program in a fresh interpreter."""
    if start_method is not None:
        code = f"import fastmp; fastmp.set_start_method({start_method!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * DEADLINE, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def start_group(*arguments, **options):
    """A program in a session of its own: what the terminal sends, os.killpg() sends to all of it."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


@contextlib.contextmanager
def ready_group(*arguments):
    """The same, once it has said that it is ready. At the end of the block nobody is left of it."""
    with start_group(*arguments) as main:
        try:
            assert main.stdout.readline() == "ready\n"
            yield main
            becomes(lambda: session_members(main.pid), [])
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(main.pid, signal.SIGKILL)
            raise
