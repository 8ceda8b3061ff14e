"""The limits that rows are compared with: what the machine allows, whoever does it.

A limit is a function like a row's, without a context. It is measured in the same run as the rows that
name it, in a fresh process, in turns with the peers; that process imports the limit's module and no other of
this folder. A limit that cannot be measured is left out.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

Program = Callable[[int], float]


class Limit:
    def __init__(self, program: Program, count: int) -> None:
        self.program = program
        self.count = count
        self.file = program.__module__


LIMITS: dict[str, Limit] = {}


def limit(name: str, count: int) -> Callable[[Program], Program]:
    def add(program: Program) -> Program:
        LIMITS[name] = Limit(program, count)
        return program

    return add


def load_limits() -> dict[str, Limit]:
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        importlib.import_module(f"limits.{path.stem}")
    return LIMITS
