"""Who imports this, as new interpreters do with a test module, prints whole lines, as on a terminal."""

import sys

sys.stdout.reconfigure(line_buffering=True, write_through=False)
