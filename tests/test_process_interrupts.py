"""Ctrl-C while children come to life: SIGINT to the whole group, as the terminal sends it, at any instant.

The program ends, and so do its children, whether they run yet or not, and only the program tells of it."""

import os
import random
import signal
import time

import pytest
from programs import ready_group
from targets import DEADLINE

PROGRAM = """
import sys, time, fastmp

def run():
    try:
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        sys.exit(3)

if __name__ == "__main__":
    context = fastmp.get_context(sys.argv[1])
    first = context.Process(target=int)
    first.start()
    first.join()
    if ahead := int(sys.argv[2]):
        context.set_standby(ahead, wait=True)
    print("ready", flush=True)
    children = []  # all are kept: what is raised while Python forgets an object is lost
    while True:
        children.append(context.Process(target=run))
        children[-1].start()
        for oldest in children[-4:-3]:
            oldest.kill()
            oldest.join()
"""
SOME_STARTS = 0.2  # seconds


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def interrupt(program, method, ahead, seconds):
    """What the program prints to stderr, if it is interrupted so long after it began to start children."""
    with ready_group(program, method, str(ahead)) as main:
        time.sleep(seconds)
        os.killpg(main.pid, signal.SIGINT)
        _, errors = main.communicate(timeout=DEADLINE)
        assert main.returncode == -signal.SIGINT, errors
    return errors


def check(errors):
    """It is the program's own traceback, with those of children that had just entered run(), if any."""
    running = errors.count("in run\n")
    assert errors.count("Process ") <= running, errors
    assert errors.count("Traceback") <= 1 + running, errors
    assert errors.endswith("KeyboardInterrupt\n") or running, errors


rounds = pytest.mark.parametrize(
    "rounds", [2, pytest.param(60, marks=[pytest.mark.stress, pytest.mark.deadline(900)])]
)


def strike(program, method, ahead, rounds):
    rng = random.Random(rounds)
    for _ in range(rounds):
        check(interrupt(program, method, ahead, rng.uniform(0, SOME_STARTS)))


@rounds
def test_while_children_come_to_life(program, start_method, rounds):
    strike(program, start_method, 0, rounds)


@rounds
@pytest.mark.start_methods("spawn", "forkserver")
def test_while_children_wait_that_were_started_ahead(program, start_method, rounds):
    strike(program, start_method, 4, rounds)
