"""Signals that strike at a chosen step.

The interpreter looks for signals at the beginning of a function, when a call returns and at the end of each
turn of a loop. `Striker.run(k, function, handler)` has one arrive just before the k-th of these places in the
code of fastmp: what `handler` does is then done there, as by a signal handler. So a test can go through all
places: k = 1, 2, 3, ... until `struck` is false, which `all_strikes` does. Where fastmp's code is in C, the
places are those of its caller: Striker(__file__) takes those of the test as well.

The instructions are counted: by a trace function, or, since Python 3.12, whose trace functions are not told
of all instructions, by callbacks of sys.monitoring. Neither may run Python code after the signal is there, or
the handler would come within it, and what it raises at a place where no signal is looked for. So the signal
is sent by an operator that leads into C code, and who counts is gone by then.

One place is left out. Since Python 3.14 signals are looked for when the __enter__ of a `with` has returned
and before its block is protected, so a lock that was just acquired stays so. What must not be lost there is
taken by `holding` (fastmp/_at_once.py).
So is the beginning of a function whose next place is that one: 3.14 has looked before it tells who counts.
Where signals are blocked the signal arrives later.
"""

import _signal
import _thread
import dis
import functools
import gc
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from processes import blocked

import fastmp

FOLDER = str(Path(fastmp.__file__).parent)
LOOKS = ("CALL", "JUMP_BACKWARD", "RESUME", "SEND", "FOR_ITER", "BEFORE_WITH", "WITH_EXCEPT")


class _Flag:
    __neg__ = staticmethod(functools.partial(_thread.interrupt_main, signal.SIGALRM))


class _Places:
    """The instructions of some code that look for signals."""

    def __init__(self, code):
        known = list(dis.get_instructions(code))
        looks = [
            (instruction, before.opname == "LOAD_SPECIAL")
            for before, instruction in itertools.pairwise(known)
            if instruction.opname.startswith(LOOKS)
        ]
        later = [enters for instruction, enters in looks if instruction.opname != "RESUME"]
        self.begins_unsafely = later[:1] == [True]
        self.offsets = {instruction.offset for instruction, enters in looks if not enters}


class _Trace:
    """Has the instructions of this thread counted by a trace function."""

    def __init__(self):
        os.register_at_fork(after_in_child=functools.partial(sys.settrace, None))

    def begin(self, striker):
        self._striker, self._before = striker, sys.gettrace()
        sys.settrace(self._see)

    def end(self):
        sys.settrace(self._before)

    def _see(self, frame, event, arg):
        code = frame.f_code
        if event == "call":
            if not self._striker.covers(code):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event != "opcode" or frame.f_lasti not in self._striker.places(code).offsets:
            return self._see
        if self._striker.is_due():
            sys.settrace(None)
            _ = -self._striker.flag
        return self._see


class _Monitor:
    """The same by sys.monitoring, which goes on to tell only of the places."""

    TOOL = 4

    def __init__(self):
        self._at = sys.monitoring.events
        self._begins = self._at.PY_START | self._at.PY_RESUME
        sys.monitoring.use_tool_id(self.TOOL, "strikes")
        os.register_at_fork(after_in_child=functools.partial(sys.monitoring.set_events, self.TOOL, 0))

    def begin(self, striker):
        self._striker, self._thread = striker, threading.get_ident()
        sys.monitoring.restart_events()  # what was no place for another striker may be one
        self._tell(self._see_beginning, self._see)
        sys.monitoring.set_events(self.TOOL, self._begins | self._at.INSTRUCTION)

    def end(self):
        sys.monitoring.set_events(self.TOOL, 0)

    def _tell(self, beginning, instruction):
        sys.monitoring.register_callback(self.TOOL, self._at.PY_START, beginning)
        sys.monitoring.register_callback(self.TOOL, self._at.PY_RESUME, beginning)
        sys.monitoring.register_callback(self.TOOL, self._at.INSTRUCTION, instruction)

    def _see_beginning(self, code, offset):
        if not self._striker.covers(code) or self._striker.places(code).begins_unsafely:
            return sys.monitoring.DISABLE
        return self._count()

    def _see(self, code, offset):
        if not self._striker.covers(code) or offset not in self._striker.places(code).offsets:
            return sys.monitoring.DISABLE
        return self._count()

    def _count(self):
        if threading.get_ident() == self._thread and self._striker.is_due():
            self._tell(None, None)
            _ = -self._striker.flag


_counter = _Monitor() if sys.version_info >= (3, 12) else _Trace()


class Struck(BaseException):
    """What a handler raises."""


def strike():
    raise Struck


class Striker:
    def __init__(self, *also):
        """`also`: files whose code has places, too."""
        self._where = (FOLDER, *also)
        self.struck = False
        self.place = None  # where: file and line
        self.flag = _Flag()
        self._places_of = {}

    def run(self, k, function, handler):
        """function(), in the course of which `handler` is called once, unless it has less than k places."""
        self.struck, self.place = False, None
        self._left = k

        def handle(signum, frame):
            self.struck, self.place = True, (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            handler()

        old_handler = signal.signal(signal.SIGALRM, handle)
        gc.disable()  # what a handler raises in a finalizer is lost
        try:
            try:
                _counter.begin(self)
                return function()
            finally:
                _counter.end()
        finally:
            signal.signal(signal.SIGALRM, old_handler)
            gc.enable()

    def covers(self, code):
        return code.co_filename.startswith(self._where)

    def places(self, code):
        places = self._places_of.get(code)
        if places is None:
            places = self._places_of[code] = _Places(code)
        return places

    def is_due(self):
        """Count a place: whether it is the one."""
        self._left -= 1
        if self._left == 0 and signal.SIGALRM in _signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            self._left = 1  # it waits until it is let through
        return self._left == 0


def all_strikes(stride, *also):
    """A striker and k, for as long as it strikes."""
    striker = Striker(*also)
    for k in itertools.count(1, stride):
        yield striker, k
        if not striker.struck:
            break
    assert k > 1, "that was no call of ours"


def strike_asleep(function, *handlers):
    """function(), which must block: one handler after the other is called each time that it is asleep."""
    left, sent = list(handlers), 0
    main, process = threading.main_thread(), os.getpid()

    def handle(signum, frame):
        left.pop(0)()

    def knock():
        nonlocal sent
        while left and not over:
            if sent + len(left) == len(handlers) and blocked(process, main.native_id):
                sent += 1
                signal.pthread_kill(main.ident, signal.SIGALRM)
            time.sleep(0.001)

    over = False
    old = signal.signal(signal.SIGALRM, handle)
    thread = threading.Thread(target=knock)
    thread.start()
    try:
        return function()
    finally:
        over = True
        thread.join()
        signal.signal(signal.SIGALRM, old)
        assert not left
