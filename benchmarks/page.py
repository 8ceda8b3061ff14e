"""The results page and its chart, from what compare.py --page has measured.

    python benchmarks/page.py [FOLDER]

reads FOLDER/benchmarks.json (docs/ unless named) and writes benchmarks.md and benchmarks.png beside it.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from results import BASE, LIMIT, OURS, Results, geometric_mean, overview, peer_table

PAGE = """\
# Benchmarks

What one operation costs with fastmp, with the standard library, and with others that can do it, beside
what the machine itself allows. The same program runs on each, in fresh processes that take turns and load
nothing else, and the smallest figure of all rounds counts. Read the ratios; the times are those of one
machine. [scale.md](scale.md) is about many objects, long streams and many workers.

    pip install ".[benchmark]" && python benchmarks/compare.py --page

measures all of it and writes this page. `benchmarks/compare.py --help` says how to measure less of it, and
`pytest benchmarks --benchmark-only` runs the rows under pytest-benchmark.

{conditions} Geometric mean of stdlib / fastmp over the rows with a figure to reach: {mean:.1f}.

![The speed of each peer as a multiple of the standard library's](benchmarks.png)

## Between the standard library and the limit

The limit is what bounds the row here, whoever does it, measured in C or in plain Python in the same run:
two processes that set a flag in shared memory in turns, one copy of the payload into warm shared memory,
one pickle.dumps and loads of it, a bare fork, a lock of threads. "At least" is the ratio to reach.
What a program has loaded, each fork pays for, whoever forks: "imports" is a program with some modules.

{overview}

## All peers

Empty where a peer has no such thing. A `get_many` takes messages one by one with peers that have none.

{peers}
"""

COLOURS = plt.get_cmap("tab10").colors
MARKERS = "osD^v<>pPX"
INCHES_PER_ROW = 0.27


def draw(results: Results, path: Path) -> None:
    """A line for each row; to the right is faster. The standard library is the line at 1."""
    height = len(results.lines) * INCHES_PER_ROW + 1.6
    figure, axes = plt.subplots(figsize=(11, height), layout="constrained")
    others = [peer for peer in results.peers if peer not in (BASE, OURS)]
    for number, peer in enumerate([*others, LIMIT, OURS]):
        points = [
            (ratio, y) for y, line in enumerate(results.lines) if (ratio := line.ratio(peer)) is not None
        ]
        if not points:
            continue
        style = {
            OURS: {"marker": "o", "s": 75, "color": "tab:red", "zorder": 4},
            LIMIT: {"marker": "|", "s": 160, "color": "black", "linewidths": 2, "zorder": 3},
        }.get(peer, {"marker": MARKERS[number % 10], "s": 26, "color": COLOURS[number % 10], "alpha": 0.8})
        axes.scatter(*zip(*points, strict=True), label=peer, **style)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.tick_params(axis="x", labeltop=True, top=True)
    axes.set_yticks(range(len(results.lines)), [line.name for line in results.lines])
    axes.set_ylim(len(results.lines) - 0.5, -0.5)
    axes.grid(axis="x", which="major", color="0.8")
    axes.grid(axis="y", color="0.93")
    axes.set_axisbelow(True)
    axes.set_xlabel("times as fast as the standard library; the bar is the limit of this machine")
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs"
    results = Results.from_dict(json.loads((folder / "benchmarks.json").read_text()))
    draw(results, folder / "benchmarks.png")
    page = PAGE.format(
        conditions=results.conditions(),
        mean=geometric_mean(results),
        overview=overview(results),
        peers=peer_table(results),
    )
    (folder / "benchmarks.md").write_text(page)


if __name__ == "__main__":
    main()
