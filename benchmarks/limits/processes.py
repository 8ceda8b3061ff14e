"""Processes, made without any module for that. Nothing else is loaded: a fork pays for what it copies."""

import os
import sys

from rows import timed

from limits import limit


def fork_and_wait() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def fork_four() -> None:
    for _ in range(4):
        fork_and_wait()


def run_python() -> None:
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ), 0)


limit("fork, _exit, waitpid", count=100)(lambda count: timed(fork_and_wait, count))
limit("4 times fork, _exit, waitpid", count=25)(lambda count: timed(fork_four, count))
limit("python -c pass", count=10)(lambda count: timed(run_python, count))
