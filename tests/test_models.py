"""The models of src/core (models/README.md): spin finds nothing wrong, and finds every bug that is put in."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parent.parent / "models"
MODELS = sorted(path.stem for path in FOLDER.glob("*.pml"))

CALM = ""
LEAVER = "LEAVE SLICES=FIRST"
CRASH = "KILLS=1 SLICES=LAST NAPS=1"
CRASHES = "KILLS=2 SLICES=LAST NAPS=2"
CHAOS = "KILLS=1 SLICES=ANY"

STRANDED = "invalid end state"
WRONG = "assertion violated"

# To compile what spin writes takes gcc longer than to run it, and clang two thirds of that. tcc does it in no
# time, and what it makes is hardly slower than what they make without optimization.
COMPILER = os.environ.get("CC") or next(filter(shutil.which, ["tcc", "clang"]), "cc")

pytestmark = [
    pytest.mark.deadline(600),
    pytest.mark.skipif(shutil.which("spin") is None, reason="spin is not installed"),
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason="there is no C compiler"),
]


class Holds(NamedTuple):
    """A variant of a model in which everything that it says is so."""

    model: str
    defines: str
    ends: bool = False  # also: no run goes round and round


class Fails(NamedTuple):
    """A variant with a bug, and what spin makes of it."""

    model: str
    bug: str
    defines: str
    verdict: str


HOLDS = [
    Holds("eventcount", CALM, ends=True),
    Holds("eventcount", f"PARTIES=3 TOKENS=2 {CRASH}", ends=True),
    Holds("eventcount", f"PARTIES=3 TOKENS=2 {CRASHES}"),
    Holds("eventcount", f"PARTIES=3 {LEAVER}"),
    Holds("eventcount", f"PARTIES=3 TOKENS=2 LEAVE {CHAOS}"),
    Holds("mutex", CALM, ends=True),
    Holds("mutex", "AGAIN"),
    Holds("mutex", "AGAIN THREADS"),
    Holds("mutex", LEAVER),
    Holds("mutex", CRASH),
    Holds("mutex", CRASHES),
    Holds("mutex", CHAOS),
    Holds("mutex", "ROBUST"),
    Holds("mutex", f"ROBUST {CRASH}"),
    Holds("bell", CALM),
    Holds("bell", "KILLS=1"),
    Holds("bell", "KILLS=2"),
    Holds("channel", CALM),
    Holds("channel", "OPEN", ends=True),
    Holds("channel", "OPEN LISTENED"),
    Holds("channel", CRASH),
    Holds("channel", f"OPEN {CRASH}"),
    Holds("channel", "OPEN LISTENED KILLS=1"),
    Holds("heap", CALM),
    Holds("heap", "KILLS=1"),
    Holds("heap", "KILLS=2"),
    Holds("sem", CALM, ends=True),
    Holds("sem", "PERMITS=2"),
    Holds("sem", "GIVER"),
    Holds("sem", LEAVER),
    Holds("sem", CRASH),
    Holds("sem", CHAOS),
    Holds("event", CALM, ends=True),
    Holds("event", "PARTIES=4"),
    Holds("event", CRASH),
    Holds("event", CHAOS),
    Holds("barrier", "PARTIES=2", ends=True),
    Holds("barrier", "RESET"),
    Holds("barrier", "FAIL SLICES=FIRST"),
    Holds("barrier", "WITHDRAW SLICES=FIRST"),
    Holds("barrier", CRASH),
    Holds("barrier", CRASHES),
    Holds("barrier", f"PARTIES=2 {CHAOS}"),
    Holds("cond", CALM, ends=True),
    Holds("cond", "AGAIN"),
    Holds("cond", "AGAIN ALL"),
    Holds("cond", f"ONE {LEAVER}"),
    Holds("cond", f"ONE {CRASH}"),
    Holds("cond", f"ALL {CRASH}"),
    Holds("cond", f"ONE LEAVE {CHAOS}"),
    Holds("queue", CALM),
    Holds("queue", "TWO_PUSHERS"),
    Holds("queue", "MOST=1"),
    Holds("queue", "MOST=2 CONVOY BATCH=2", ends=True),
    Holds("queue", f"CONVOY BATCH=2 {CRASH}"),
    Holds("queue", f"TWO_PUSHERS CONVOY {CRASH}"),
    Holds("queue_tasks", CALM, ends=True),
    Holds("queue_tasks", "JOINERS"),
    Holds("queue_tasks", "EXTRA"),
    Holds("queue_tasks", f"JOINERS {CRASH}"),
    Holds("queue_tasks", CHAOS),
    Holds("object", CALM, ends=True),
    Holds("object", "KILLS=1"),
    Holds("object", "KILLS=2"),
    Holds("object", "MAIL", ends=True),
    Holds("object", "MAIL SPARE KILLS=1"),
    Holds("object", "MAIL KILLS=2"),
]

FAILS = [
    Fails("eventcount", "BUG_LOOK_BEFORE", CALM, STRANDED),
    Fails("eventcount", "BUG_SIGNAL_BEFORE", CALM, STRANDED),
    Fails("eventcount", "BUG_CLEAR_WOKEN", CALM, WRONG),
    Fails("eventcount", "BUG_CLEAR_BLINDLY", CALM, WRONG),
    Fails("eventcount", "BUG_NO_WAKE_ALL", CALM, WRONG),
    Fails("eventcount", "NAPS=0", "PARTIES=3 TOKENS=2 KILLS=1 SLICES=LAST", STRANDED),
    Fails("mutex", "BUG_NO_SIGNAL", CALM, STRANDED),
    Fails("mutex", "BUG_LOOK_BEFORE", CALM, STRANDED),
    Fails("mutex", "BUG_TAKE_STORE", CALM, WRONG),
    Fails("mutex", "BUG_OWNER_FIRST", "AGAIN THREADS", WRONG),
    Fails("mutex", "BUG_THREAD_STAYS", "AGAIN THREADS", WRONG),
    Fails("mutex", "BUG_TAKE_STORE", CRASH, WRONG),
    Fails("mutex", "BUG_ALL_ARE_DEAD", CHAOS, WRONG),
    Fails("mutex", "BUG_HEIR_IS_NOT_TOLD", CRASH, WRONG),
    Fails("mutex", "NAPS=0", "KILLS=1 SLICES=LAST", STRANDED),
    Fails("mutex", "BUG_ANYBODY_RELEASES", "ROBUST", WRONG),
    Fails("mutex", "BUG_RECOVERED_STAYS", f"ROBUST {CRASH}", WRONG),
    Fails("bell", "BUG_LOOKS_FIRST", CALM, STRANDED),
    Fails("bell", "BUG_ARMS_BLINDLY", CALM, STRANDED),
    Fails("bell", "BUG_DISARMS_FIRST", "KILLS=1", WRONG),
    Fails("bell", "BUG_NO_REPAIR", "KILLS=1", WRONG),
    Fails("bell", "BUG_NO_SETTLE", "KILLS=1", STRANDED),
    Fails("channel", "BUG_NO_RING", "OPEN", STRANDED),
    Fails("channel", "BUG_LOOKS_BEFORE_THE_LOCK", "OPEN", STRANDED),
    Fails("channel", "BUG_PUSHES_FIRST", "OPEN LISTENED KILLS=1", STRANDED),
    Fails("channel", "BUG_NO_TURN", CALM, WRONG),
    Fails("channel", "BUG_TURN_AFTER", CRASH, WRONG),
    Fails("channel", "BUG_END_IS_FINAL", CRASH, WRONG),
    Fails("channel", "NAPS=0", "OPEN KILLS=1 SLICES=LAST", STRANDED),
    Fails("heap", "BUG_NOT_NAMED", "KILLS=1", WRONG),
    Fails("heap", "BUG_NO_REPAIR", "KILLS=1", WRONG),
    Fails("heap", "BUG_FRESH_COUNTS", "KILLS=1", WRONG),
    Fails("heap", "BUG_FRESH_IS_SWEPT", "KILLS=1", WRONG),
    Fails("heap", "BUG_SWEEPS_BLINDLY", "KILLS=1", WRONG),
    Fails("heap", "BUG_NO_SETTLE", "KILLS=1", WRONG),
    Fails("sem", "BUG_NO_SIGNAL", CALM, STRANDED),
    Fails("sem", "BUG_TAKE_STORE", CALM, WRONG),
    Fails("sem", "BUG_POST_STORE", "GIVER", WRONG),
    Fails("sem", "BUG_LEAVES_WHEN_WOKEN", LEAVER, STRANDED),
    Fails("sem", "NAPS=0", "KILLS=1 SLICES=LAST", STRANDED),
    Fails("event", "BUG_NO_COUNT", CALM, STRANDED),
    Fails("event", "BUG_FLAG_ALONE", CALM, STRANDED),
    Fails("event", "BUG_SIGNALS_ONE", CALM, STRANDED),
    Fails("event", "NAPS=0", "KILLS=1 SLICES=LAST", STRANDED),
    Fails("barrier", "BUG_NO_SIGNAL", "PARTIES=2", STRANDED),
    Fails("barrier", "BUG_FORGETS_THE_BROKEN", "RESET", WRONG),
    Fails("barrier", "BUG_ENDS_ANOTHERS_ACTION", "RESET", WRONG),
    Fails("barrier", "BUG_NO_REPAIR", CRASH, WRONG),
    Fails("barrier", "BUG_WAITS_FOR_DEAD_ACTOR", f"PARTIES=2 {CRASH}", STRANDED),
    Fails("barrier", "BUG_LEFT_ACTION_KEEPS_OUT", CRASHES, STRANDED),
    Fails("cond", "BUG_LOOK_BEFORE", CALM, STRANDED),
    Fails("cond", "BUG_NO_SIGNAL", CALM, STRANDED),
    Fails("cond", "BUG_LAST_COME_FIRST_SERVED", CALM, WRONG),
    Fails("cond", "BUG_FREES_THE_UNRELEASED", CALM, WRONG),
    Fails("cond", "BUG_FORGETS_A_NOTIFICATION", f"ONE {LEAVER}", WRONG),
    Fails("cond", "BUG_TAKES_FROM_THE_LIVING", "AGAIN", WRONG),
    Fails("cond", "BUG_UNLINK_FIRST", f"ONE {CRASH}", STRANDED),
    Fails("cond", "BUG_NO_REPAIR", f"ONE {CRASH}", WRONG),
    Fails("cond", "BUG_KEEPS_THE_HALF_ENTERED", f"ONE {CRASH}", WRONG),
    Fails("cond", "BUG_SHARED_FIRST", f"ONE {CRASH}", WRONG),
    Fails("cond", "BUG_NO_SETTLE", f"ONE {CRASH}", WRONG),
    Fails("cond", "NAPS=0", "ONE KILLS=1 SLICES=LAST", STRANDED),
    Fails("queue", "BUG_LOOK_BEFORE", CALM, STRANDED),
    Fails("queue", "BUG_FREE_HEAD", CALM, WRONG),
    Fails("queue", "BUG_COUNT_BEFORE_TAIL", f"TWO_PUSHERS {CRASH}", WRONG),
    Fails("queue", "BUG_NO_TAIL_REPAIR", f"TWO_PUSHERS {CRASH}", WRONG),
    Fails("queue", "BUG_NO_HEAD_REPAIR", f"CONVOY BATCH=2 {CRASH}", WRONG),
    Fails("queue", "BUG_RECEIPT_STAYS", f"CONVOY BATCH=2 {CRASH}", WRONG),
    Fails("queue", "BUG_REPAIRER_GETS_IT", f"CONVOY BATCH=2 {CRASH}", WRONG),
    Fails("queue", "BUG_NO_SETTLE", f"CONVOY BATCH=2 {CRASH}", WRONG),
    Fails("queue_tasks", "BUG_NO_SIGNAL", CALM, STRANDED),
    Fails("queue_tasks", "BUG_SIGNALS_FIRST", CALM, STRANDED),
    Fails("queue_tasks", "BUG_SIGNALS_ONE", "JOINERS", STRANDED),
    Fails("queue_tasks", "BUG_PUSHED_FIRST", CALM, WRONG),
    Fails("queue_tasks", "BUG_STORES_BLINDLY", CALM, WRONG),
    Fails("queue_tasks", "BUG_ADDS_BLINDLY", "EXTRA", WRONG),
    Fails("queue_tasks", "NAPS=0", "JOINERS KILLS=1 SLICES=LAST", STRANDED),
    Fails("object", "BUG_FORKS_FIRST", "KILLS=1", WRONG),
    Fails("object", "BUG_ADOPTS_BLINDLY", CALM, WRONG),
    Fails("object", "BUG_RESERVATION_ENDS", CALM, WRONG),
    Fails("object", "BUG_BURIES_WHO_CAME", CALM, WRONG),
    Fails("object", "BUG_THE_DEAD_HOLD_NOTHING", "KILLS=1", WRONG),
    Fails("object", "BUG_TELLS_NOT_AGAIN", "KILLS=1", WRONG),
    Fails("object", "BUG_RECYCLES_FIRST", "KILLS=2", WRONG),
    Fails("object", "BUG_NO_REPAIR", "KILLS=1", WRONG),
    Fails("object", "BUG_ENTRY_GOES_FIRST", "KILLS=1", WRONG),
    Fails("object", "BUG_LANDS_FIRST", "MAIL", WRONG),
    Fails("object", "BUG_MARKED_LATE", "MAIL KILLS=1", WRONG),
    Fails("object", "BUG_NO_BOOKING", "MAIL KILLS=1", WRONG),
    Fails("object", "BUG_BOOKED_TOO_EARLY", "MAIL SPARE KILLS=1", WRONG),
    Fails("object", "BUG_NO_SETTLE", "MAIL KILLS=1", WRONG),
]


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check(folder: Path, model: str, defines: str, cycles: bool = False) -> str:
    """What spin's verifier says after it has been everywhere, or has found an error."""
    run(folder, "spin", "-a", *(f"-D{define}" for define in defines.split()), FOLDER / f"{model}.pml")
    # To keep states as they are saves a fifth; cycles can't be looked for then.
    kind = ["-DNP"] if cycles else ["-DSAFETY", "-DNOCOMP"]
    # Of the time that -O1 takes it saves less than half.
    run(folder, COMPILER, "-w", "-O0", *kind, "pan.c", "-o", "pan")
    said = run(folder, "./pan", "-m100000", "-w20", *(["-l"] if cycles else []))
    assert "max search depth too small" not in said, said
    assert "Search not completed" not in said or "errors: 0" not in said, said
    return said


def check_all(folder: Path, runs: list[tuple[str, str, bool]]) -> list[str]:
    """What it says of each (model, defines, cycles), one at a time on each processor."""
    folders = [folder / str(n) for n in range(len(runs))]
    for each in folders:
        each.mkdir()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        # The last take longest, so they begin first.
        begun = [pool.submit(check, each, *row) for each, row in reversed([*zip(folders, runs, strict=True)])]
        return [each.result() for each in reversed(begun)]


@pytest.mark.parametrize("model", MODELS)
def test_holds(model: str, tmp_path: Path) -> None:
    rows = [row for row in HOLDS if row.model == model]
    runs = [(model, row.defines, cycles) for row in rows for cycles in [False, True][: 1 + row.ends]]
    for run, said in zip(runs, check_all(tmp_path, runs), strict=True):
        assert "errors: 0" in said, (run, said)


@pytest.mark.parametrize("model", MODELS)
def test_bugs_are_found(model: str, tmp_path: Path) -> None:
    rows = [row for row in FAILS if row.model == model]
    runs = [(model, f"{row.bug} {row.defines}", False) for row in rows]
    for row, said in zip(rows, check_all(tmp_path, runs), strict=True):
        assert "errors: 1" in said and row.verdict in said, (row, said)


def test_every_model_and_every_bug_is_checked() -> None:
    assert set(MODELS) == {row.model for row in HOLDS} == {row.model for row in FAILS}
    texts = [path.read_text() for path in FOLDER.glob("*.[pi]*")]
    bugs = {bug for text in texts for bug in re.findall(r"\bBUG_\w+", text)}
    assert bugs == {row.bug for row in FAILS if row.bug.startswith("BUG_")}
