"""What children print in a notebook: join() waits for the thread that copies it into the output."""

import programs

PROGRAM = """
import os, threading, time
from fastmp import _echo

_echo._PATIENCE = 60
reader, writer = os.pipe()
os.dup2(writer, 2)
output = []

def copy():
    while chunk := os.read(reader, 100):
        time.sleep(0.1)  # it is neither in the pipe nor in the output
        output.append(chunk.decode())

threading.Thread(target=copy, daemon=True).start()
for text in (b"one", b"two"):
    os.write(2, text)
    _echo.await_echo()
    print(output)
"""


def test_what_was_written_is_in_the_output():
    assert programs.run_python(PROGRAM).stdout == "['one']\n['one', 'two']\n"


def test_other_streams_are_not_waited_for():
    done = programs.run_python("import os; from fastmp import _echo\nos.close(1)\n_echo.await_echo()")
    assert done.stderr == ""
