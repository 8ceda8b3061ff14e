"""One figure: one row on one peer, or its limit, in a fresh process that does nothing else.

The process runs figure.py, or the other program that a row names; what happens there is in gauge.py.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from limits import Limit, load_limits
from peers import PEERS
from rows import Row

FOLDER = Path(__file__).parent
# As users have it: where compiled modules are not kept, an import or a spawned child measures the compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
DEADLINE = 300.0  # seconds
LIMIT = "limit"  # stands for the peer when the limit of a row is asked for


def command(row: Row, peer: str, scale: float) -> list[str]:
    """What measures it."""
    program: Row | Limit
    if peer == LIMIT:
        name, program, launcher, provider = row.limit, load_limits()[row.limit], [], []
    else:
        name, program, launcher = row.name, row, PEERS[peer].command()
        provider = [PEERS[peer].provider, row.method]
    count = max(1, int(program.count * scale))
    return [*launcher, sys.executable, str(FOLDER / row.main), program.file, name, str(count), *provider]


def measure_in_fresh_process(row: Row, peer: str, scale: float) -> float | None:
    """Microseconds, or None after a message if the peer failed."""
    run = subprocess.Popen(
        command(row, peer, scale),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    try:
        output, errors = run.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        errors = f"not over after {DEADLINE} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # what a failed program left behind
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    if run.returncode == 0:
        return float(output)
    print(f"{row.name}, {peer}: {errors}", file=sys.stderr)
    return None
