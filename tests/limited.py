"""Run a script under a limit: python limited.py RLIMIT_NAME VALUE SCRIPT [ARGUMENT...]"""

import resource
import runpy
import sys

_, name, value, *sys.argv = sys.argv
kind = getattr(resource, name)
resource.setrlimit(kind, (int(value), resource.getrlimit(kind)[1]))
runpy.run_path(sys.argv[0], run_name="__main__")
