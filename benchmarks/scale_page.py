"""The page about scale and memory and its chart, from what scale.py --page has measured.

    python benchmarks/scale_page.py [FOLDER]

reads FOLDER/scale.json (docs/ unless named) and writes scale.md and scale.png beside it.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator
from studies import Figures, table

PAGE = """\
# Scale and memory

Many objects, long streams and many workers, fastmp beside the standard library, each in a fresh process with
the start method fork. `python benchmarks/scale.py --page` measures all of it and writes this page;
[benchmarks.md](benchmarks.md) has the cost of single operations. MiB and bytes are those of the process and
all its descendants together, in which pages that they share count once; what the kernel keeps for a pipe is
not in them. Of each kind of objects, the first is not counted.

{machine}; all counts times {scale:g}.

![Microseconds for a task by the number of workers and by the size of the argument](scale.png)

The chart shows the last two tables: a task of a map with chunksize=1, and one call of `Pool(2).apply`.

{tables}
"""

CURVES = {"µs for a task, by workers": "workers", "µs for a task, by bytes": "bytes of the argument"}


def size(value: float, _: object) -> str:
    for unit in "", " Ki", " Mi":
        if value < 1024:
            return f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.0f} Gi"


def plain(value: float, _: object) -> str:
    return f"{value:g}"


def draw(studies: dict[str, dict[str, Figures]], path: Path) -> None:
    figure, panels = plt.subplots(1, len(CURVES), figsize=(11, 4.2), layout="constrained")
    for axes, (name, label) in zip(panels, CURVES.items(), strict=True):
        for (peer, figures), style in zip(studies[name].items(), ("s--", "o-"), strict=True):
            axes.plot([int(x) for x in figures], list(figures.values()), style, label=peer)
        ticks = [int(x) for x in figures]
        axes.set_xscale("symlog", base=2, linthresh=ticks[1])  # which, unlike "log", has a place for 0
        axes.set_xticks(ticks if len(ticks) < 8 else ticks[::2])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(size)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain)
        if name.endswith("workers"):  # less than two decades
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter(plain)
        axes.set_xlabel(label)
        axes.set_ylabel("µs for a task")
        axes.grid(color="0.9")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs"
    results = json.loads((folder / "scale.json").read_text())
    studies = results.pop("studies")
    draw(studies, folder / "scale.png")
    tables = "\n\n".join(table(name, figures) for name, figures in studies.items())
    (folder / "scale.md").write_text(PAGE.format(tables=tables, **results))


if __name__ == "__main__":
    main()
