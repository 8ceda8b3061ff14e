"""Programs in interpreters of their own."""

import subprocess
import sys

from targets import DEADLINE


def run_python(code, *, start_method=None, check=True, **options):
    """Run a program in a fresh interpreter."""
    if start_method is not None:
        code = f"import fastmp; fastmp.set_start_method({start_method!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * DEADLINE, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done
