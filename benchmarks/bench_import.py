"""The import of the package, in an interpreter that has just started."""

import subprocess
import sys
from typing import Any

from rows import in_parts, row

PROGRAM = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


@row("import", count=10, aim=1.5)
def import_package(mp: Any, count: int) -> float:
    module = type(mp).__module__.partition(".")[0]
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    return in_parts(lambda count: sum(float(subprocess.check_output(command)) for _ in range(count)), count)
