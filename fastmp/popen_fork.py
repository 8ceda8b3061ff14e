"""The launcher of the start method `fork`, under the name that libraries import."""

from ._launch.fork import Popen

__all__ = ["Popen"]
