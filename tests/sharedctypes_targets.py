"""What tests of values share. Apart, since a new process imports it without pytest."""

import ctypes

CODES = "cbBuhHiIlLqQfd"


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Point3(Point):
    _fields_ = (("z", ctypes.c_short),)


class Number(ctypes.Union):
    _fields_ = (("whole", ctypes.c_int), ("bytes", ctypes.c_ubyte * 4))


def outcome(function, *args):
    """What it returns, or the exception."""
    try:
        return repr(function(*args))
    except Exception as error:
        return type(error), str(error)


def put(array, key, value):
    array[key] = value
