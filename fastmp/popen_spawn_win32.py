"""The launcher of new interpreters, also on Linux: some code imports every submodule there is."""

from ._launch.spawn import Popen

__all__ = ["Popen"]
