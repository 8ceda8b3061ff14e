"""fastmp inside MPI: `mpiexec -n 5`, and each rank has children of its own (after notebook 002)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(sys.executable).parent  # where the wheel of mpich puts mpiexec
PATH = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
RANKS = 5

pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install '.[test]'")
pytestmark = pytest.mark.skipif(shutil.which("mpiexec", path=PATH) is None, reason="there is no mpiexec")

PROGRAM = """
import sys

import fastmp
from mpi4py import MPI


def square(x):
    return x * x


def put_rank(queue, rank):
    queue.put((rank, fastmp.current_process().name))


if __name__ == "__main__":
    fastmp.set_start_method(sys.argv[1])
    comm = MPI.COMM_WORLD
    rank = comm.Get_rank()
    sys.stdout.write(f"hello world from process {rank}\\n")
    with fastmp.Pool(2) as pool:
        squares = pool.map(square, range(rank, rank + 3))
    queue = fastmp.Queue()
    child = fastmp.Process(target=put_rank, args=(queue, rank), name=f"child of {rank}")
    child.start()
    answer = queue.get(timeout=30)
    child.join(30)
    gathered = comm.gather((rank, squares, answer, child.exitcode), root=0)
    if rank == 0:
        assert gathered == [
            (r, [r * r, (r + 1) ** 2, (r + 2) ** 2], (r, f"child of {r}"), 0) for r in range(comm.Get_size())
        ], gathered
        sys.stdout.write(f"gathered from {len(gathered)}\\n")
"""


@pytest.mark.start_methods("fork")  # another child would import mpi4py anew, and call itself a rank
def test_every_rank_uses_fastmp(tmp_path, start_method):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        ["mpiexec", "-n", str(RANKS), sys.executable, program, start_method],
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=80,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    hellos = [f"hello world from process {rank}" for rank in range(RANKS)]
    assert sorted(run.stdout.splitlines()) == [f"gathered from {RANKS}", *hellos]
