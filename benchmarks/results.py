"""What a run of compare.py found, and the tables that show it. benchmarks.json holds the same."""

import math
import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

from rows import Row

BASE, OURS, LIMIT = "stdlib", "fastmp", "limit"


@dataclass
class Line:
    name: str
    file: str
    aim: float | None
    limit: str
    times: dict[str, float]  # peer: microseconds; the limit is one of them

    def ratio(self, peer: str, to: str = BASE) -> float | None:
        """How many times as fast as `to` the peer is."""
        if peer in self.times and to in self.times:
            return self.times[to] / self.times[peer]
        return None


@dataclass
class Results:
    machine: str
    rounds: int
    scale: float
    peers: list[str]
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Results":
        return cls(**(data | {"lines": [Line(**line) for line in data["lines"]]}))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, row: Row, times: dict[str, float]) -> None:
        self.lines.append(Line(row.name, row.file, row.aim, row.limit, times))

    def conditions(self) -> str:
        return f"{self.machine}, start method fork unless named; the smallest of {self.rounds} rounds."


def machine() -> str:
    system = f"{platform.system()} {platform.release().partition('-')[0]} on {platform.machine()}"
    return f"CPython {platform.python_version()}, {system}, {os.cpu_count()} processors"


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def markdown(columns: list[str], lines: list[list[str]]) -> str:
    rule = "| --- |" + " ---: |" * (len(columns) - 1)
    head, *body = ("| " + " | ".join(cells) + " |" for cells in [columns, *lines])
    return "\n".join([head, rule, *body])


def overview(results: Results) -> str:
    """fastmp between the standard library and the limit."""
    columns = ["", f"{BASE}, µs", f"{OURS}, µs", f"{BASE} / {OURS}", "at least"]
    columns += ["limit, µs", f"{OURS} / limit", "the limit"]
    lines = []
    for line in results.lines:
        figures = [
            line.times.get(BASE),
            line.times.get(OURS),
            line.ratio(OURS),
            line.aim,
            line.times.get(LIMIT),
            line.ratio(LIMIT, to=OURS),
        ]
        lines.append([line.name, *map(number, figures), line.limit])
    return markdown(columns, lines)


def peer_table(results: Results) -> str:
    """Every peer as a multiple of the standard library's speed."""
    peers = [peer for peer in results.peers if peer != BASE]
    lines = [[line.name, *(number(line.ratio(peer)) for peer in peers)] for line in results.lines]
    return markdown(["times as fast as stdlib", *peers], lines)


def geometric_mean(results: Results) -> float:
    """Of the rows that have an aim."""
    ratios = [ratio for line in results.lines if line.aim and (ratio := line.ratio(OURS))]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def below_aim(results: Results) -> list[str]:
    """The rows that are below their aim, the farthest first."""
    shares = sorted(
        (ratio / line.aim, line, ratio)
        for line in results.lines
        if line.aim and (ratio := line.ratio(OURS)) and ratio < line.aim
    )
    return [f"{line.name}: {ratio:.2f} of {line.aim:g} ({share:.0%})" for share, line, ratio in shares]
