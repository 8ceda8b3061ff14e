"""Every public name, its signature and the exceptions of bad calls, compared with the standard library's.

surface.py says what is compared. What differs stands in surface_differences.txt with the reason; a difference
that is not there fails, and so does a line there to which nothing corresponds any more.
"""

import contextlib
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIST = TESTS / "surface_differences.txt"
KNOWN = (3, 15)  # the newest version that the list was made with

pytestmark = pytest.mark.deadline(240)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    """What surface.py finds of the standard library and of fastmp."""
    folder = tmp_path_factory.mktemp("surfaces")
    found = []
    for package in "multiprocessing", "fastmp":
        file, reference = folder / f"{package}.json", folder / "multiprocessing.json"
        describe(package, file, reference if found else "")
        found.append(json.loads(file.read_text()))
    return found


def describe(package, file, reference):
    """Run surface.py, in a group of its own: a pool left behind may replace the workers that it killed."""
    errors = file.with_suffix(".stderr")
    with errors.open("w") as stderr:
        script = subprocess.Popen(
            [sys.executable, TESTS / "surface.py", package, file, reference],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=file.parent,
            start_new_session=True,
        )
    try:
        status = script.wait(100)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)
        script.wait()
    assert status == 0, errors.read_text()


def differences_of_names(standard, ours):
    """What differs, one line each, and how."""
    gone = set()
    modules = {name for name, kind in standard.items() if kind == "module" and name}
    owners = {name.rpartition(".")[0] for name in standard} | {""}
    owners |= {
        name for name, kind in standard.items() if kind.startswith("class ") or name.endswith("__all__")
    }
    for name, kind in standard.items():
        if name not in ours:
            gone.add(name)
            if not any(name.startswith((f"{parent}.", f"{parent}(")) for parent in gone):
                yield f"missing {name}", kind
        elif kind != ours[name]:
            yield f"differs {name}", f"{kind}  ->  {ours[name]}"
    for name, kind in ours.items():
        owner, _, last = name.rpartition(".")
        # What a module has beyond its __all__ is its own affair; what is added to a class may be in the way.
        if name not in standard and owner in owners - modules and is_public(last):
            yield f"extra {name}", kind


def is_public(name):
    return not name.startswith("_") or name.startswith("__")


def differences_of_exceptions(standard, ours):
    for call in standard:
        (kind, message), (our_kind, our_message) = (text[call].split("\t", 1) for text in (standard, ours))
        if kind != our_kind:
            yield f"raises {call}", f"{kind}: {message[:100]}  ->  {our_kind}: {our_message[:100]}"


LINE = re.compile(r"(?P<pattern>(?P<kind>\w+) .*?)(?: \[(?P<sign><|>=)(?P<version>[\d.]+)\])? # .+")


def kept(kinds):
    """The patterns of the list for these kinds, if this version of Python is meant."""
    for text in LIST.read_text().splitlines():
        if text and not text.startswith("#"):
            line = LINE.fullmatch(text)
            assert line, text
            if line["kind"] in kinds and meant_here(line["sign"], line["version"]):
                yield line["pattern"]


def meant_here(sign, version):
    if sign is None:
        return True
    older = sys.version_info < tuple(map(int, version.split(".")))
    return older if sign == "<" else not older


def matches(name, pattern):
    return name == pattern or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def check(differences, patterns):
    new = {
        name: how
        for name, how in differences.items()
        if not any(matches(name, pattern) for pattern in patterns)
    }
    old = [pattern for pattern in patterns if not any(matches(name, pattern) for name in differences)]
    report = [f"{name}:  {how}" for name, how in new.items()] + [f"no longer differs: {line}" for line in old]
    if report and sys.version_info[:2] > KNOWN:
        pytest.xfail("the list was not made with this version of Python:\n" + "\n".join(report))
    assert not report, "\n".join(report)


def test_names_and_signatures(surfaces):
    standard, ours = (surface["names"] for surface in surfaces)
    assert len(standard) > 1000
    check(dict(differences_of_names(standard, ours)), list(kept(("missing", "differs", "extra"))))


def test_exceptions(surfaces):
    standard, ours = (surface["raised"] for surface in surfaces)
    assert len(standard) > 600
    check(dict(differences_of_exceptions(standard, ours)), list(kept(("raises",))))


def test_nothing_hangs(surfaces):
    _, ours = (surface["raised"] for surface in surfaces)
    assert not [call for call, outcome in ours.items() if outcome.startswith("does not end")]
