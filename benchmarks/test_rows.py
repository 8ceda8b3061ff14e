"""The rows under pytest-benchmark: `pytest benchmarks --benchmark-only`, with all its options.

The plain test command doesn't collect this folder. A row is measured in a fresh process, as compare.py does
it, and says itself how long it took; so the clock that pytest-benchmark reads goes on by just that.
"""

from typing import Any

import pytest
from measure import measure_in_fresh_process
from peers import PEERS, Peer
from rows import Row, load_rows


class Clock:
    """Stands still between measurements, but for the tick that pytest-benchmark takes its precision from."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1e-9
        return self.time


clock = Clock()
CASES = [
    pytest.param(
        row, peer, id=f"{row.name}-{peer.name}", marks=pytest.mark.benchmark(group=row.name, timer=clock)
    )
    for row in load_rows().values()
    for peer in PEERS.values()
    if peer.installed() and peer.can(row)
]


def measure(row: Row, peer: Peer, scale: float) -> None:
    microseconds = measure_in_fresh_process(row, peer.name, scale)
    assert microseconds is not None
    clock.time += microseconds / 1e6


@pytest.mark.parametrize(("row", "peer"), CASES)
def test_row(benchmark: Any, row: Row, peer: Peer, scale: float) -> None:
    benchmark.extra_info["peer"] = peer.name
    benchmark.pedantic(measure, (row, peer, scale), rounds=5)
