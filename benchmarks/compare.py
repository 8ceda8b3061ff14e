"""Measure fastmp beside the standard library and print the table.

    python benchmarks/compare.py [--rounds N] [--scale X] [ROW...]

Every figure is measured in a fresh process. The peers take turns in each round, so that what else
the machine does hits all of them, and the smallest figure of all rounds counts: the one that was
disturbed least. Read the ratios; the times are those of one machine. Rows are chosen by a part of
their name. To add a row or a noun, see rows.py; to add a peer, extend PEERS.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys

from rows import ROWS, Row, load_rows

PEERS = {"stdlib": "multiprocessing", "fastmp": "fastmp"}  # column: module; ratios are to the first


def measure(row: Row, peer: str, scale: float) -> float:
    """Microseconds, in this process."""
    count = max(1, int(row.count * scale))
    context = importlib.import_module(PEERS[peer]).get_context(row.method)
    return row.program(context, count) / count * 1e6


def measure_in_fresh_process(row: Row, peer: str, scale: float) -> float:
    command = [sys.executable, __file__, "--scale", str(scale), "--peer", peer, row.name]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return float(run.stdout)


def table(rows: list[Row], rounds: int, scale: float) -> str:
    base, *others = PEERS
    columns = ["", *(f"{peer}, µs" for peer in PEERS), *(f"{base} / {other}" for other in others)]
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    for row in rows:
        best = dict.fromkeys(PEERS, float("inf"))
        for _ in range(rounds):
            for peer in PEERS:
                best[peer] = min(best[peer], measure_in_fresh_process(row, peer, scale))
        cells = [f"{best[peer]:.2f}" for peer in PEERS]
        cells += [f"{best[base] / best[other]:.1f}" for other in others]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> str:
    return (
        f"CPython {platform.python_version()}, {platform.system()} {platform.release().partition('-')[0]} on "
        f"{platform.machine()}, {os.cpu_count()} processors"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all repetition counts")
    parser.add_argument(
        "--peer", choices=PEERS, help="measure the one row named, in this process, and print it"
    )
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args()
    load_rows()
    if options.peer:
        print(measure(ROWS[options.rows[0]], options.peer, options.scale))
        return
    chosen = [
        row for row in ROWS.values() if not options.rows or any(part in row.name for part in options.rows)
    ]
    print(f"{machine()}; the smallest of {options.rounds} rounds.\n")
    print(table(chosen, options.rounds, options.scale))


if __name__ == "__main__":
    main()
