"""What other processes do, as the system tells it."""

import os
from pathlib import Path

FUTEX = {"x86_64": "202", "aarch64": "98"}.get(os.uname().machine, "")  # the number of the system call
PRIVATE = 128  # the flag of a futex that no other process uses


def asleep(process: int, thread: int | None = None) -> bool:
    stat = Path(f"/proc/{process}/task/{thread or process}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


def blocked(process: int, thread: int | None = None) -> bool:
    """Is it asleep in a call that waits for others? On memory of its own process a thread waits for its turn
    to run Python: that does not count."""
    if not asleep(process, thread):
        return False
    try:
        call = Path(f"/proc/{process}/task/{thread or process}/syscall").read_text()
    except PermissionError:  # not everybody may ask for that
        return True
    number, *arguments = call.split()
    return number != "running" and not (number == FUTEX and int(arguments[1], 16) & PRIVATE)


def session_members(session: int) -> list[str]:
    """The processes of a session, but for the dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(f"{entry.name}: {(entry / 'cmdline').read_text().replace(chr(0), ' ')}")
        except (OSError, ValueError):
            continue
    return found
