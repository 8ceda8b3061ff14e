"""The figures of scale.py as tables. scale.json holds the same: figures by study and peer."""

from typing import Any

from results import markdown, number

Figures = dict[str, Any]


def cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def table(name: str, figures: dict[str, Figures]) -> str:
    columns = list(next(iter(figures.values())))
    lines = [[peer, *(cell(found[column]) for column in columns)] for peer, found in figures.items()]
    return markdown([name, *columns], lines)
