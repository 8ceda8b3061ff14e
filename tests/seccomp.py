"""A kernel, or a container, without some system call: python seccomp.py NAME,NAME SCRIPT [ARGUMENT...]

runs a script in which these fail: `pidfd_open` with EPERM, as container engines refuse it; `populate`, that
is madvise(MADV_POPULATE_WRITE), with EINVAL, as kernels before 5.14 answer. It holds for children too.
"""

import ctypes
import errno
import platform
import runpy
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
FILTER_MODE = 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER, THIRD_ARGUMENT = 0, 16 + 2 * 8  # places in struct seccomp_data
MADVISE = {"x86_64": 28, "aarch64": 233}
PIDFD_OPEN = 434
MADV_POPULATE_WRITE = 23


def instruction(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, constant)


REFUSALS = {
    "pidfd_open": [
        instruction(LOAD, NUMBER),
        instruction(JUMP_IF_EQUAL, PIDFD_OPEN, 0, 1),
        instruction(RETURN, FAIL | errno.EPERM),
    ],
    "populate": [
        instruction(LOAD, NUMBER),
        instruction(JUMP_IF_EQUAL, MADVISE.get(platform.machine(), 0), 0, 3),
        instruction(LOAD, THIRD_ARGUMENT),
        instruction(JUMP_IF_EQUAL, MADV_POPULATE_WRITE, 0, 1),
        instruction(RETURN, FAIL | errno.EINVAL),
    ],
}


def refuse(names: list[str]) -> None:
    """OSError where filters are not permitted."""
    steps = [step for name in names for step in REFUSALS[name]] + [instruction(RETURN, ALLOW)]
    program = ctypes.create_string_buffer(b"".join(steps))
    address = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER_MODE, address, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse(sys.argv[1].split(","))
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
