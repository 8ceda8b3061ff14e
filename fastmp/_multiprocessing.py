"""What libraries import from `_multiprocessing`: semaphores of the system, which have names."""

from ._core import SemLock, sem_unlink

__all__ = ["SemLock", "flags", "sem_unlink"]

flags = {"HAVE_SEM_OPEN": 1, "HAVE_SEM_TIMEDWAIT": 1}
