"""The launcher of the start method `forkserver`, under the name that libraries import."""

from ._launch.forkserver import Popen

__all__ = ["Popen"]
