"""Build of the extension module fastmp._core; everything else is in pyproject.toml.

FASTMP_DEV=1                          assertions on, warnings are errors
FASTMP_SANITIZE=address,undefined     or "thread": build under these sanitizers
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

if not sys.platform.startswith("linux"):
    sys.exit(f"fastmp needs Linux; there is no src/platform folder for {sys.platform} yet.")
if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
    this = f"{sys.implementation.name} {sys.version.split()[0]}"
    sys.exit(f"fastmp needs CPython 3.11 or newer; this is {this}.")

SOURCE_FOLDERS = ["src/platform/linux", "src/core", "src/binding"]

compile_args = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-fvisibility=hidden"]
link_args = ["-Wl,-z,now"]  # look symbols up when it is loaded, or each forked child does that again
macros = [("_GNU_SOURCE", "1")]
unset = []

if os.environ.get("FASTMP_DEV") == "1":
    compile_args += ["-Werror", "-g", "-O1"]
    unset.append("NDEBUG")
sanitizers = os.environ.get("FASTMP_SANITIZE")
if sanitizers:
    flags = [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g"]
    compile_args += flags
    link_args += flags

setup(
    ext_modules=[
        Extension(
            "fastmp._core",
            sources=sorted(str(path) for folder in SOURCE_FOLDERS for path in Path(folder).glob("*.c")),
            depends=sorted(str(path) for path in Path("src").rglob("*.h")),
            include_dirs=["src"],
            define_macros=macros,
            undef_macros=unset,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ]
)
