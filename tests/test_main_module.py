"""python -m fastmp: programs run as they do without it, but `multiprocessing` is fastmp for them."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

SHOWS = """
import sys
names = sorted(name for name in globals() if name.startswith("__"))
for name in names:
    value = globals()[name]
    shown = type(value) if name in ("__builtins__", "__loader__") else value
    print(name, (value.name, value.origin) if name == "__spec__" and value else shown)
print(sys.argv, sys.path)
print(sys.modules["__main__"].__dict__ is globals(), sys.excepthook is sys.__excepthook__)
"""
FAILS = """
def inner():
    try:
        {}["key"]
    except KeyError:
        1 / 0

inner()
"""
EXITS = """
import atexit, sys
atexit.register(print, "bye from", __name__)
sys.exit(sys.argv[1] if len(sys.argv) > 1 else 7)
"""


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, source in {"shows": SHOWS, "fails": FAILS, "exits": EXITS}.items():
        (tmp_path / f"{name}.py").write_text(source)
        for folder in f"{name}_folder", f"{name}_package":
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "__main__.py").write_text(source)
        (tmp_path / f"{name}_package" / "__init__.py").touch()
        with zipfile.ZipFile(f"{name}.zip", "w") as file:
            file.writestr("__main__.py", source)
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "wrong.py").write_text("def (:\n")
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt\n")
    (tmp_path / "nothing.py").touch()
    (tmp_path / "link").symlink_to(tmp_path / "shows_folder" / "__main__.py")
    (tmp_path / "future.py").write_text("def f(x: 1): pass\nprint(f.__annotations__)\n")


def run(*args, stdin="", **kwargs):
    return subprocess.run([sys.executable, *args], input=stdin, capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize(
    "args",
    [
        *("shows.py 1 -m --help", "shows_folder 1", "shows_folder/", "shows.zip 1 2", "link", "- a b"),
        *("./../{here}/shows.py", "-m shows 1", "-mshows", "-m shows_package 1", "-m shows_folder"),
        *("-- shows.py -c", "fails.py", "fails_folder", "fails.zip", "-m fails", "-m fails_package"),
        *("-c 1/0", "-c def", "-cx=1", "exits.py", "exits.py 0", "exits.py message", "-m exits"),
        *("exits_folder", "wrong.py", "-m wrong", "missing.py", "missing/missing.py", "-m missing"),
        *("-m missing.missing", "-m empty_folder", "empty_folder", "interrupted.py", "-m interrupted"),
        *("-m nothing", "nothing.py", "future.py"),
    ],
)
def test_as_without_it(args, tmp_path):
    args = args.format(here=tmp_path.name).split()
    expected, got = (run(*how, *args, stdin=SHOWS) for how in ([], ["-m", "fastmp"]))
    assert (got.stdout, got.stderr, got.returncode) == (expected.stdout, expected.stderr, expected.returncode)
    if args[0].startswith("shows") or args[0] == "-":
        assert got.stdout and not got.stderr


@pytest.mark.parametrize(
    ("options", "program"),
    [
        ("", "shows.pyc"),
        ("-P", "shows.py"),
        ("-P", "shows_folder"),
        ("-P", "-c print(__import__('sys').path)"),
    ],
)
def test_as_without_it_with_options(options, program):
    run("-m", "compileall", "-b", "shows.py")
    expected, got = (run(*options.split(), *how, *program.split()) for how in ([], ["-m", "fastmp"]))
    assert (got.stdout, got.stderr, got.returncode) == (expected.stdout, "", 0)


@pytest.mark.parametrize("args", [[], ["-x"], ["-m"], ["-c"], ["--"], ["--what", "shows.py"]])
def test_wrong_usage(args):
    done = run("-m", "fastmp", *args)
    assert done.returncode == 2
    assert "usage: python -m fastmp" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    done = run("-m", "fastmp", option)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m fastmp")
    assert not done.stderr


@pytest.mark.parametrize("with_fastmp", [False, True])
def test_interrupted_from_the_keyboard(with_fastmp, tmp_path):
    waits = "import time\nwhile True: print('ready', flush=True); time.sleep(0.01)\n"  # pause() may miss it
    (tmp_path / "waits.py").write_text(waits)
    command = [sys.executable, *(["-m", "fastmp"] if with_fastmp else []), "waits.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGINT)
        _, error = program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
    assert error.splitlines()[0] == "Traceback (most recent call last):"
    assert error.splitlines()[1] == f'  File "{tmp_path}/waits.py", line 2, in <module>'
    assert error.splitlines()[-1] == "KeyboardInterrupt"


USES = """
import multiprocessing, os, subprocess, sys
from multiprocessing import Process, Queue, Value
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import Synchronized

SEEN_AT_IMPORT = sys.modules["multiprocessing"].__name__

class Point:
    def __init__(self, x):
        self.x = x

def child(queue, point, total):
    import multiprocessing.pool, multiprocessing.synchronize
    assert type(point) is Point
    total.value += point.x
    names = [multiprocessing.__name__, multiprocessing.pool.__name__, type(total).__module__]
    queue.put((SEEN_AT_IMPORT, names, multiprocessing.get_start_method(), sys.argv, Point(3).x))
    grandchild = multiprocessing.Process(target=grandchild_of, args=(queue,))
    grandchild.start()
    grandchild.join()

def grandchild_of(queue):
    import multiprocessing
    queue.put((SEEN_AT_IMPORT, multiprocessing.__name__))

def main():
    multiprocessing.set_start_method(sys.argv[1])
    queue, total = Queue(), Value("i", 1)
    process = Process(target=child, args=(queue, Point(2), total))
    process.start()
    for _ in range(2):
        print(queue.get(timeout=60))
    process.join(60)
    print(process.exitcode, total.value, isinstance(total, Synchronized), wait([process.sentinel], 1) != [])
    plain = "import multiprocessing; print(multiprocessing.__name__)"
    print(subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True).stdout, end="")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("kind", ["file", "-m", "folder", "zip"])
def test_children_have_it_too(kind, start_method, tmp_path):
    (tmp_path / "uses.py").write_text(USES)
    os.mkdir("uses_folder")
    shutil.copy("uses.py", "uses_folder/module.py")
    (tmp_path / "uses_folder" / "__main__.py").write_text("import module; module.main()\n")
    with zipfile.ZipFile("uses.zip", "w") as file:
        for name in "module.py", "__main__.py":
            file.write(f"uses_folder/{name}", name)
    program = {"file": ["uses.py"], "-m": ["-m", "uses"], "folder": ["uses_folder"], "zip": ["uses.zip"]}[
        kind
    ]
    done = run("-m", "fastmp", *program, start_method, timeout=80)
    name = str(tmp_path / "uses.py") if kind == "-m" else program[-1]
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(
            (
                "fastmp",
                ["fastmp", "fastmp.pool", "fastmp.sharedctypes"],
                start_method,
                [name, start_method],
                3,
            )
        ),
        "('fastmp', 'fastmp')",
        "0 3 True True",
        "multiprocessing",
    ]


def test_sem_lock_of_the_program():
    done = run("-m", "fastmp", "-c", "import _multiprocessing as m; print(m.__name__, m.SemLock)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fastmp._multiprocessing ")
