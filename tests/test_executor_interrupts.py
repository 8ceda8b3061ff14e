"""Ctrl-C in a program that uses concurrent.futures.ProcessPoolExecutor on fastmp: SIGINT to the whole group,
at any instant of submit, map, result and shutdown. It ends, and leaves no worker."""

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest
from programs import ready_group
from targets import DEADLINE

PROGRAM = """
import sys, fastmp
{install}
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    context = fastmp.get_context({method!r})
    print("ready", flush=True)
    while True:
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            futures = [executor.submit(abs, -i) for i in range(20)]
            assert [future.result({deadline}) for future in futures] == list(range(20))
            assert list(executor.map(abs, range(20), chunksize=3)) == list(range(20))
"""
SOME_EXECUTORS = 0.5  # seconds


@pytest.mark.parametrize("install", ["", "fastmp.install()"])
@pytest.mark.parametrize(
    "rounds", [1, pytest.param(40, marks=[pytest.mark.stress, pytest.mark.deadline(900)])]
)
def test_at_any_instant(tmp_path, start_method, install, rounds):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(method=start_method, install=install, deadline=DEADLINE))
    rng = random.Random(rounds)
    for _ in range(rounds):
        interrupt(program, rng.uniform(0, SOME_EXECUTORS))


def interrupt(program, seconds):
    with ready_group(program) as main:
        time.sleep(seconds)
        errors = interrupt_until_it_ends(main)
        assert main.returncode in (-signal.SIGINT, 1), errors  # a worker that ended breaks the executor


def interrupt_until_it_ends(main):
    """Once, unless the standard library drops it, as it drops what callbacks of weak references raise."""
    for seconds in (DEADLINE / 3, DEADLINE):
        os.killpg(main.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return main.communicate(timeout=seconds)[1]  # once no worker has it open
    raise AssertionError("it goes on")
