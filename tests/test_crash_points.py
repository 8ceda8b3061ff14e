"""Processes killed at every change that they make to what they share (tests/c/stepper.h).

Each program crash_<noun>.c does that to one noun of the core. Together their victims run through every
function of the core that can change anything, and come to every instruction that does; what they need not
come to is in tests/c/crash_waivers.txt, with the reason."""

import bisect
import functools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "c"
CORE = FOLDER.parents[1] / "src" / "core"
WAIVERS = FOLDER / "crash_waivers.txt"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("crash_*.c"))

# Every function is one, and says when it is entered; objdump is wrong about the lines of later formats.
CFLAGS = "-O1 -fno-inline -finstrument-functions -gdwarf-4"
# In the core every block is traced, too: what is run as a whole, or not at all. What others call is there.
TRACED = "-fsanitize-coverage=trace-pc -fkeep-inline-functions"
TRACE = "__sanitizer_cov_trace_pc"
STORE = re.compile(r"(lock )?(?!i?div|i?mul|push|call|jmp|.*nop)\w+ .*\((?!%rsp|%rip)[^)]*\)$")
LOOK = re.compile(r"(cmp|test|bt)[bwlq]? ")

Place = tuple[str, int]  # a function, and how far behind its first byte

pytestmark = [
    pytest.mark.deadline(900),  # the first builds what all link
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
    pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="there is no C compiler"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="the stepper needs the trap flag of x86-64"
    ),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="binutils are not installed"),
]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


def symbols(path: Path) -> list[tuple[int, str]]:
    """The functions of a program or an object file, by address; static ones as "file.c:name"."""
    found, file = [], ""
    for line in run("readelf", "-sW", path).splitlines():
        match line.split():
            case [_, _, _, "FILE", _, _, _, file]:
                pass
            case [_, address, _, "FUNC", binding, _, section, name] if section != "UND":
                name = name.split(".")[0]  # of a part or variant that the compiler made
                whole = binding == "GLOBAL" or name.startswith("fmp_")  # a header's is the same everywhere
                found.append((int(address, 16), name if whole else f"{file}:{name}"))
    return sorted(found)


def place(functions: list[tuple[int, str]], address: int) -> Place:
    start, name = functions[bisect.bisect_right(functions, address, key=lambda function: function[0]) - 1]
    return name, address - start


def visited(program: Path, trace: Path) -> set[Place]:
    functions = symbols(program)
    return {place(functions, int(at, 16)) for at in trace.read_text().split()}


@functools.cache
def stepped() -> list[str]:
    return run("make", "-s", "-C", FOLDER, "stepped").split()


def changes(path: Path) -> Iterator[tuple[Place, str]]:
    """Where an object file has an instruction that may change what is shared, or a call that does: the block
    that it is in, and its line of the source."""
    functions, block, line, traced = symbols(path), -1, "", False
    for text in run("objdump", "-drl", "--no-show-raw-insn", path).splitlines():
        if found := re.match(r"(/.*):(\d+)", text):
            source = Path(found[1])
            line = f"{source.name}: {source.read_text().splitlines()[int(found[2]) - 1].strip()}"
        elif found := re.search(r" R_\S+\t([^-+]+)", text):
            traced = found[1] == TRACE
            if found[1] in stepped():
                yield place(functions, block), line
        elif found := re.match(r" *([0-9a-f]+):\t([^#]*)", text):
            if traced:
                block, traced = int(found[1], 16), False
            if STORE.match(found[2].strip()) and not LOOK.match(found[2]):
                yield place(functions, block), line


@pytest.fixture(scope="module")
def kill(folder: Path) -> Callable[[str], set[Place]]:
    """Run a program, once: the functions and blocks that its victims ran through."""

    @functools.cache
    def run_program(name: str) -> set[Place]:
        how = f"OUT={folder}", f"CFLAGS={CFLAGS}", f"TRACED={TRACED}"
        run("make", "-C", FOLDER, *how, folder / name)
        run(folder / name, STEPPER_TRACE=str(folder / f"{name}.trace"))
        return visited(folder / name, folder / f"{name}.trace")

    return run_program


@pytest.mark.parametrize("name", PROGRAMS)
def test_whoever_is_killed_the_others_go_on(name: str, kill: Callable[[str], set[Place]]) -> None:
    assert kill(name)


def test_victims_run_through_the_whole_core(folder: Path, kill: Callable[[str], set[Place]]) -> None:
    seen = set().union(*map(kill, PROGRAMS))
    ran = {function for function, _ in seen}
    objects = [folder / "core" / f"{path.stem}.o" for path in CORE.glob("*.c")]
    functions = {name for path in objects for _, name in symbols(path) if ":__" not in name}  # the system's
    lines = WAIVERS.read_text().splitlines()
    waived = {line.split()[0] for line in lines if line and line[0] != "#" and ": " not in line}
    assert sorted(functions - ran - waived) == []  # no victim ran through these
    assert sorted(waived - functions) == []  # waived, but not in the core
    assert sorted(waived & ran) == []  # waived, but victims do run through these

    made = [change for path in objects for change in changes(path)]
    missed = {line for at, line in made if at not in seen and at[0] not in waived}
    waived_lines = {line for line in lines if ": " in line and line[0] != "#"}
    assert sorted(missed - waived_lines) == []  # no victim made these changes
    assert sorted(waived_lines - {line for _, line in made}) == []  # waived, but not there


@pytest.mark.stress
@pytest.mark.parametrize("name", PROGRAMS)
def test_whoever_is_killed_by_whatever_heirs(
    name: str, kill: Callable[[str], set[Place]], folder: Path
) -> None:
    assert kill(name)
    run(folder / name, STEPPER_ALL="1")
