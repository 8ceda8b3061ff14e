"""The notebooks' cells as programs: what all of them share."""

import sys
from collections.abc import Callable, Iterator

import pytest

import fastmp


@pytest.fixture(autouse=True)
def default_start_method(start_method: str) -> Iterator[None]:
    """The cells use the names of the package, so the default start method is set for them."""
    before = fastmp.get_start_method(allow_none=True)
    fastmp.set_start_method(start_method, force=True)
    yield
    fastmp.set_start_method(before, force=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Let standard output pass on whole lines, as a terminal does, so that those of children that
    print at the same time do not run into each other. (pytest sets `sys.stdout` anew for each phase
    of a test, so a fixture would be too early.)"""
    sys.stdout.reconfigure(line_buffering=True, write_through=False)


@pytest.fixture
def printed(child_output: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """A function that returns the lines printed since it was last called, by children too."""
    return lambda: [line for line in child_output.readouterr().out.splitlines() if line.strip()]


@pytest.fixture
def last_number() -> Callable[[], int]:
    """The number in the name that the last process was given; making one more takes a number."""
    return lambda: int(fastmp.Process().name.rpartition("-")[2])


@pytest.fixture
def finish_all(finish: Callable[..., None]) -> Callable[[], None]:
    """Join the children that a cell has started and forgotten."""
    return lambda: finish(*fastmp.active_children())
