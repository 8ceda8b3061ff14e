"""A script: what it takes to compile and link a program with the Python that runs it: cflags or ldflags."""

import sys
import sysconfig

config = sysconfig.get_config_vars()
cflags = f"-I{config['INCLUDEPY']}"
library = config["LIBDIR"]
ldflags = (
    f"-L{library} -Wl,-rpath,{library} -lpython{config['LDVERSION']} {config['LIBS']} {config['SYSLIBS']}"
)
print({"cflags": cflags, "ldflags": ldflags}[sys.argv[1]])
