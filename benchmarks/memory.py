"""What a process and its descendants hold: memory and descriptors, as the kernel counts them."""

import os
from pathlib import Path


def children(pid: int) -> list[int]:
    """All descendants that run."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in path.read_text().split()]
        except OSError:  # the thread has just ended
            continue
        for child in direct:
            found += [child, *children(child)]
    return found


def proportional(pid: int) -> int:
    """Bytes of a process; of a page that n processes have mapped, one n-th."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def used() -> int:
    """Bytes of this process and all its descendants together; pages that they share count once."""
    return sum(proportional(pid) for pid in [os.getpid(), *children(os.getpid())])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def cpu_seconds() -> float:
    """Of this process and all its descendants that still run."""
    ticks = 0
    for pid in [os.getpid(), *children(os.getpid())]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
