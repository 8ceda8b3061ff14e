"""The launcher of the start method `spawn`, under the name that libraries import."""

from ._launch.spawn import Popen

__all__ = ["Popen"]
