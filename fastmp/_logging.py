"""The package's own log, and the name of the process in everybody's.

The first half is cheap to import: `logging` itself is needed only by who asks for the logger, and util.py,
which makes it, leaves it in `logger`. Until then there is nowhere to write to and the functions return.

The second half keeps `%(processName)s` right. `logging` asks the module that sys.modules knows as
`multiprocessing` for the name, so without the standard library's there (or with it there, which knows
nothing of fastmp's processes) every process would be MainProcess. A process whose name is not that, that
is a child or one that was renamed, therefore wraps the factory of log records: whatever factory was set
before is called first, and one set later that calls its predecessor, as the documentation of `logging`
asks for, keeps ours. If `logging` is not loaded yet, a finder on sys.meta_path waits for its import.
A leaf: imports nothing of fastmp.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is slow to import, and logging is to stay away
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = [
    "DEBUG",
    "INFO",
    "NOTSET",
    "SUBDEBUG",
    "SUBWARNING",
    "WARNING",
    "debug",
    "info",
    "name_records",
    "name_records_later",
    "sub_debug",
    "sub_warning",
    "warn",
]

NOTSET = 0
SUBDEBUG = 5
DEBUG = 10
INFO = 20
SUBWARNING = 25
WARNING = 30

logger: logging.Logger | None = None
log_to_stderr = False
_named_pid: int | None = None


def sub_debug(msg: object, *args: object) -> None:
    if logger is not None:
        logger.log(SUBDEBUG, msg, *args, stacklevel=2)


def debug(msg: object, *args: object) -> None:
    if logger is not None:
        logger.log(DEBUG, msg, *args, stacklevel=2)


def info(msg: object, *args: object) -> None:
    if logger is not None:
        logger.log(INFO, msg, *args, stacklevel=2)


def sub_warning(msg: object, *args: object) -> None:
    if logger is not None:
        logger.log(SUBWARNING, msg, *args, stacklevel=2)


def warn(msg: object, *args: object) -> None:
    if logger is not None:
        logger.log(WARNING, msg, *args, stacklevel=2)


def name_records(get_name: Callable[[], str]) -> None:
    """From now on the log records of this process carry the name that `get_name` returns."""
    global _named_pid
    if _named_pid == os.getpid():
        return
    _named_pid = os.getpid()
    module = sys.modules.get("logging")
    if module is not None and hasattr(module, "setLogRecordFactory"):
        _wrap_factory(module, get_name)
    else:
        sys.meta_path.insert(0, _LoggingAwaited(get_name))


def name_records_later(get_name: Callable[[], str | None]) -> bool:
    """The same for this process and all forks of it, as far as `get_name` knows a name there, from when they
    import `logging`. False if this process has done so."""
    if "logging" in sys.modules:
        return False
    sys.meta_path.insert(0, _LoggingAwaited(get_name))
    return True


def _wrap_factory(module: Any, get_name: Callable[[], str | None]) -> None:
    make = module.getLogRecordFactory()
    pid = os.getpid()

    def make_named(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = make(*args, **kwargs)
        # Not in a process that somebody else forked from this one: it may have a name of its own.
        if module.logMultiprocessing and os.getpid() == pid:
            record.processName = get_name()
        return record

    module.setLogRecordFactory(make_named)


class _LoggingAwaited:
    """A finder that acts once: `logging` is found as ever, but this loads it and wraps its factory."""

    def __init__(self, get_name: Callable[[], str | None]) -> None:
        self._get_name = get_name
        self._loader: Any = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "logging" or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._loader, spec.loader = spec.loader, self  # type: ignore[assignment]
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._get_name() is not None:
            _wrap_factory(module, self._get_name)
