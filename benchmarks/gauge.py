"""In a measuring process: how long a program takes, a row's or a limit's.

    python figure.py FILE NAME COUNT [MODULE METHOD]

prints the microseconds for one of the `count` things. A row gets the context of that module and start
method. The process loads what the program needs and no more, as some rows measure forks: what there is to
copy takes time, and so do the hooks that modules like threading have in each child.
"""

import importlib
import sys


def main() -> None:
    file, name, count, *provider = sys.argv[1:]
    print(measure(file, name, int(count), *provider))


def measure(file: str, name: str, count: int, *provider: str) -> float:
    importlib.import_module(file)
    if provider:
        module, method = provider
        context = importlib.import_module(module).get_context(method)
        took = importlib.import_module("rows").ROWS[name].program(context, count)
    else:
        took = importlib.import_module("limits").LIMITS[name].program(count)
    return float(took / count * 1e6)
