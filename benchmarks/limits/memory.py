"""Memory that two processes share, in C, as Python is slow: memory.c is compiled with `cc` when needed."""

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

from rows import in_parts

from limits import limit

SOURCE = Path(__file__).with_name("memory.c")


@functools.cache
def compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "memory.so"
        subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.flag_ping_pong.restype = loaded.copy.restype = ctypes.c_double
    return loaded


def ping_pong(times: int, count: int) -> float:
    return in_parts(lambda count: float(compiled().flag_ping_pong(ctypes.c_long(times * count))), count)


def copy(size: int, count: int) -> float:
    return in_parts(lambda count: float(compiled().copy(ctypes.c_long(size), ctypes.c_long(count))), count)


limit("flag ping-pong", count=100_000)(lambda count: ping_pong(1, count))
limit("2 flag ping-pongs", count=50_000)(lambda count: ping_pong(2, count))
limit("100 flag ping-pongs", count=1000)(lambda count: ping_pong(100, count))
limit("memcpy of 1 MiB", count=500)(lambda count: copy(1 << 20, count))
limit("memcpy of 2 MiB", count=250)(lambda count: copy(2 << 20, count))
limit("memcpy of 8 MB", count=60)(lambda count: copy(8_000_000, count))
