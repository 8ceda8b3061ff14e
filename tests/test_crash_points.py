"""Processes killed at every change that they make to what they share (tests/c/stepper.h).

Each program crash_<noun>.c does that to one noun of the core. Together their victims run through every
function of the core that can change anything, and come to every instruction that does; what they need not
come to is in tests/c/crash_waivers.txt, with the reason.

What src/binding and src/platform store into the arena themselves is little: tests/stepped.py kills at each of
these stores. That these are all the compiler says, who reads both once more with all that is shared made
read-only. Each such place is in tests/c/crash_binding.txt, with the reason why it leaves nothing wrong."""

import bisect
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "c"
CHECKOUT = FOLDER.parents[1]
SOURCE = CHECKOUT / "src"
CORE = SOURCE / "core"
WAIVERS = FOLDER / "crash_waivers.txt"
BINDING_WAIVERS = FOLDER / "crash_binding.txt"
PYTHON_HEADERS = f"-I{sysconfig.get_paths()['include']}"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("crash_*.c"))

# Every function is one, and says when it is entered; objdump is wrong about the lines of later formats.
CFLAGS = "-O1 -fno-inline -finstrument-functions -gdwarf-4"
# In the core every block is traced, too: what is run as a whole, or not at all. What others call is there.
TRACED = "-fsanitize-coverage=trace-pc -fkeep-inline-functions"
TRACE = "__sanitizer_cov_trace_pc"
STORE = re.compile(r"(lock )?(?!i?div|i?mul|push|call|jmp|prefetch|.*nop)\w+ .*\((?!%rsp|%rip)[^)]*\)$")
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


def source_line(path: Path, number: int) -> str:
    return f"{path.name}: {path.read_text().splitlines()[number - 1].strip()}"


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
            line = source_line(Path(found[1]), int(found[2]))
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


# ---- the binding and the platform ------------------------------------------------------------------------

# All other structs of the core's headers are in the arena, or contents of one that is.
PRIVATE = {
    f"fmp_{name}"
    for name in (
        *("ref", "arena", "waiter", "ear", "kind_ops", "ticket", "task", "answer", "message", "parcel"),
        *("convoy", "batch", "end", "frame_in", "frame_out"),
    )
}
STRUCT = re.compile(r"(typedef struct \w*\s*{\n)([^{}]*)(} (\w+);)")
# Addresses that may be of what is shared: what they are called, and who gives them.
ADDRESS = re.compile(
    r"(?<!const )\b(void|char|_Atomic uint32_t) \*"
    r"(?=(data|body|cells|word|address)\b|\n?fmp_(arena_at|arena_place|object_body|heap_at)\()"
)
GIVEN_ADDRESS = re.compile(r"(?<=fmp_ref \*ref, )void \*\*")
# gcc says nothing of these when what they change is read-only.
ATOMIC = """
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_compare_exchange_strong_explicit
#define atomic_store_explicit(p, v, ...) (*(p) = (v))
#define atomic_exchange_explicit(p, v, ...) (*(p) = (v))
#define atomic_compare_exchange_strong_explicit(p, expected, v, ...) (*(p) = (v))
"""


def make_readonly(folder: Path) -> None:
    """Of a copy of the sources: what is shared can't be written to."""
    texts = {path: path.read_text() for path in folder.rglob("*.[ch]")}
    structs = {path: STRUCT.findall(text) for path, text in texts.items() if path.parent.name == "core"}
    shared = {name for found in structs.values() for *_, name in found} - PRIVATE
    field = re.compile(rf"^( +)(?=\w)(?!(_Alignas\(.*?\) )?({'|'.join(shared)})\b)", re.MULTILINE)
    for path, text in texts.items():
        for begin, fields, end, name in structs.get(path, []):
            if name in shared:
                text = text.replace(begin + fields + end, begin + field.sub(r"\1const ", fields) + end)
        text = GIVEN_ADDRESS.sub("const void **", text)
        path.write_text(ADDRESS.sub(r"const \g<0>", text))
    with (folder / "platform" / "atomics.h").open("a") as file:
        file.write(ATOMIC)


def complaints(readonly: Path, path: Path) -> Iterator[tuple[str, str]]:
    """Where a file of the binding or the platform changes what is shared, or lets others do so: the line of
    the source, and what the compiler says."""
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-DNDEBUG", "-fsyntax-only", "-Wcast-qual"]
    command += ["-ftrack-macro-expansion=0", f"-I{readonly}", PYTHON_HEADERS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    for text in done.stderr.splitlines():
        if found := re.match(r"(/.*?):(\d+):\d+: (?:error|warning): (.*)", text):
            at = Path(found[1]).relative_to(readonly)
            if at.parts[0] != "core":
                yield source_line(SOURCE / at, int(found[2])), found[3]


@pytest.fixture(scope="module")
def reached(folder: Path) -> set[str]:
    """The lines of the binding and the platform that store into the arena, and have had their victims."""
    out, package = folder / "hooked", folder / "hooked" / "fastmp"
    flags = f"-O1 -gdwarf-4 -fPIC -fvisibility=hidden {PYTHON_HEADERS}"
    run("make", "-j2", "-C", FOLDER, "CC=gcc", f"OUT={out}", f"CFLAGS={flags}", out / "_core")
    shutil.copytree(CHECKOUT / "fastmp", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    module = shutil.copy(out / "_core", package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}")
    run(sys.executable, "-P", FOLDER.parent / "stepped.py", out / "trace", PYTHONPATH=str(out))
    lines = run("addr2line", "-e", module, *(out / "trace").read_text().split()).splitlines()
    places = [line.partition(" ")[0].rpartition(":") for line in lines]  # some say which of a line's parts
    return {
        source_line(Path(file), int(number)) for file, _, number in places if Path(file).parent.name != "core"
    }


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_victims_come_to_all_that_the_binding_stores(reached: set[str], folder: Path) -> None:
    readonly = folder / "readonly"
    shutil.copytree(SOURCE, readonly)
    make_readonly(readonly)
    paths = [path for layer in ("binding", "platform/linux") for path in (readonly / layer).glob("*.c")]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        said = [row for rows in pool.map(lambda path: [*complaints(readonly, path)], paths) for row in rows]
    changed = {line for line, complaint in said if "read-only" in complaint}
    places = reached | {line for line, _ in said}
    known = {line for line in BINDING_WAIVERS.read_text().splitlines() if line and line[0] != "#"}
    assert sorted(changed - reached) == []  # no victim came to these
    assert sorted(places - known) == []  # what if somebody dies there?
    assert sorted(known - places) == []  # they do nothing of the kind
