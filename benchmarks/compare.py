"""Measure fastmp beside the standard library and other peers, and print the tables.

    python benchmarks/compare.py [--rounds N] [--scale X] [--peers NAME,NAME] [--page] [ROW...]

Every figure is measured in a fresh process. The peers take turns in each round, so that what else
the machine does hits all of them, and the smallest figure of all rounds counts: the one that was
disturbed least. Read the ratios; the times are those of one machine. Rows are chosen by a part of
their name. --page also writes docs/benchmarks.md and its chart. To add a row or a noun, see rows.py;
to add a peer, peers/; a limit, limits/.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from measure import LIMIT, measure_in_fresh_process
from peers import PEERS
from results import Results, below_aim, geometric_mean, machine, overview, peer_table
from rows import Row, load_rows

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def fastest(row: Row, peers: list[str], rounds: int, scale: float) -> dict[str, float]:
    """Microseconds for each peer that did the row in all rounds."""
    best = dict.fromkeys(peers, float("inf"))
    for _ in range(rounds):
        for peer in list(best):
            time = measure_in_fresh_process(row, peer, scale)
            if time is None:
                del best[peer]
            else:
                best[peer] = min(best[peer], time)
    return best


def compare(rows: list[Row], peers: list[str], rounds: int, scale: float) -> tuple[Results, bool]:
    """The results, and whether every peer did what it should."""
    results = Results(machine(), rounds, scale, [peer for peer in peers if peer != LIMIT])
    complete = True
    for number, row in enumerate(rows, 1):
        able = [peer for peer in peers if (row.limit if peer == LIMIT else PEERS[peer].can(row))]
        if sys.stderr.isatty():
            print(f"\r\033[K{number}/{len(rows)} {row.name}", end="", file=sys.stderr, flush=True)
        times = fastest(row, able, rounds, scale)
        results.add(row, times)
        complete = complete and len(times) == len(able)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return results, complete


def report(results: Results) -> str:
    parts = [results.conditions(), overview(results)]
    if len(results.peers) > 2:
        parts.append(peer_table(results))
    parts.append(f"Geometric mean of stdlib / fastmp: {geometric_mean(results):.1f}")
    parts.append("\n".join(f"below its aim: {line}" for line in below_aim(results)))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all repetition counts")
    parser.add_argument(
        "--peers", metavar="NAME,NAME", help=f"all that are installed, and {LIMIT}, unless given"
    )
    parser.add_argument("--page", action="store_true", help=f"write the page and chart in {DOCS.name}/")
    parser.add_argument("--except", dest="without", action="append", default=[], metavar="ROW")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args()
    chosen = [
        row
        for row in load_rows().values()
        if (not options.rows or any(part in row.name for part in options.rows))
        and not any(part in row.name for part in options.without)
    ]
    named = options.peers.split(",") if options.peers else [*PEERS, LIMIT]
    peers = [name for name in named if name == LIMIT or PEERS[name].installed()]
    results, complete = compare(chosen, peers, options.rounds, options.scale)
    print(report(results))
    if options.page:
        (DOCS / "benchmarks.json").write_text(json.dumps(results.as_dict(), indent=1) + "\n")
        subprocess.run([sys.executable, HERE / "page.py", DOCS], check=True)
    sys.exit(not complete)


if __name__ == "__main__":
    main()
