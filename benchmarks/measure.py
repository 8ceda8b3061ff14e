"""One figure: one row on one peer, or its limit, in a process that does nothing else.

    python benchmarks/figure.py PEER SCALE FILE ROW

prints microseconds. compare.py runs this, or the other program that a row names, again and again, through
`measure_in_fresh_process`.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from limits import LIMITS
from peers import PEERS
from rows import ROWS, Row

FOLDER = Path(__file__).parent
# As users have it: where compiled modules are not kept, an import or a spawned child measures the compiler.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
DEADLINE = 300.0  # seconds
LIMIT = "limit"  # stands for the peer when the limit of a row is asked for


def measure(row: Row, peer: str, scale: float) -> float:
    """Microseconds, in this process."""
    if peer == LIMIT:
        limit = LIMITS[row.limit]
        count = max(1, int(limit.count * scale))
        return limit.program(count) / count * 1e6
    count = max(1, int(row.count * scale))
    return row.program(PEERS[peer].context(row.method), count) / count * 1e6


def measure_in_fresh_process(row: Row, peer: str, scale: float) -> float | None:
    """Microseconds, or None after a message if the peer failed."""
    launcher = PEERS[peer].command() if peer in PEERS else []
    command = [*launcher, sys.executable, str(FOLDER / row.main), peer, str(scale), row.file, row.name]
    run = subprocess.Popen(
        command,
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


def main() -> None:
    _, peer, scale, file, name = sys.argv
    importlib.import_module(file)
    print(measure(ROWS[name], peer, float(scale)))
