"""figure.py as programs mostly are: its main module imports what it works with before it starts a process.

A process that is not forked from the program needs that module, too, before it can unpickle its target.
What is imported is of no use here. It is the standard library's, so that it is there wherever this runs.
"""

import argparse  # noqa: F401
import dataclasses  # noqa: F401
import json  # noqa: F401
import logging  # noqa: F401

if __name__ == "__main__":
    from gauge import main

    main()
