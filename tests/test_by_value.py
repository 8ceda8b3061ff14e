"""What a child can't import goes by value: lambdas, closures, what a main module without a file defines."""

import ast
import gc
import os
import pickle
import subprocess
import sys
import threading
import zipfile

import pytest

import fastmp
from fastmp import _by_value, _core

DEADLINE = 60  # seconds for a program

# A main module, run in all ways there are.
PROGRAM = """
import collections, dataclasses, enum, functools, math, os, sys
import xml.dom
import fastmp

ctx = fastmp.get_context(sys.argv[1])
here = os.getpid()
counter = None
setting = {"n": 1}

def init(value):
    global counter
    counter = value

def count(step):
    with counter.get_lock():
        counter.value += step
        return counter.value

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

@functools.lru_cache(None)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

def one_more(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 1
    return wrapper

@one_more
def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)

def counting():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    def down():
        nonlocal n
        n -= 1
        return n
    return up, down

def up_up_down(functions):
    up, down = functions
    return up(), up(), down()

class Base:
    class Inner:
        pass
    def __init__(self, x):
        self.x = x

class Point(Base):
    made = 0
    def __init__(self, x):
        super().__init__(x)
    def twice(self):
        type(self).made += 1
        return Point(self.x * 2)
    @classmethod
    def origin(cls):
        return cls(0)
    @staticmethod
    def constant():
        return Point.origin().x
    @property
    def half(self):
        return self.x / 2

@dataclasses.dataclass(frozen=True)
class Record:
    a: int
    b: list = dataclasses.field(default_factory=list, compare=False)

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

Pair = collections.namedtuple("Pair", "x y")

class Failure(Exception):
    pass

def make(x):
    return Record(x, [x]), Colour.RED, Pair(x, x), Point(x)

def nested(x):
    return Base.Inner()

def fail(x):
    raise Failure(x)

def own(x):
    setting.setdefault("calls", []).append(x)
    return len(setting["calls"])

def node(x):
    return xml.dom.Node.TEXT_NODE

def elsewhere(x):
    return os.getpid() != here

def returns_itself(x):
    return returns_itself

def pass_on(queue, box):
    point, function, record, colour, pair, another, inner = box.get(timeout=30)
    queue.put([point.twice(), function, point.twice().x - 8, function(4), record.a + 1, pair.y, another(3)])

class Child(ctx.Process):
    def __init__(self, queue):
        super().__init__(name="child")
        self.queue = queue
    def run(self):
        self.queue.put((self.name, Point(4)))

def grandparent(queue):
    child = ctx.Process(target=lambda: queue.put(even(4)))
    child.start()
    child.join()

def in_pool():
    value = ctx.Value("i", 5)
    with ctx.Pool(1, init, (value,)) as pool:
        assert pool.map(count, [1, 2, 3], chunksize=1) == [6, 8, 11]
        assert pool.apply(even, (10,)) and not pool.apply(odd, (10,))
        assert pool.apply(fibonacci, (30,)) == 832040
        assert pool.apply(factorial, (3,)) == factorial(3) == 22
        assert pool.apply(up_up_down, (counting(),)) == (1, 2, 1)
        for n in 1, 2:
            point = pool.apply(Point(3).twice)
            assert type(point) is Point and point.x == 6
            assert pool.apply(getattr, (Point, "made")) == n
        assert pool.apply(Point.constant) == 0
        assert type(pool.apply(Point.origin)) is Point
        assert pool.apply(getattr, (Point(3), "half")) == 1.5
        record, colour, pair, point = pool.apply(make, (3,))
        assert (record, colour, pair) == (Record(3), Colour.RED, Pair(3, 3))
        assert type(pair) is Pair and record.b == [3] and colour is Colour.RED
        assert type(pool.apply(nested, (3,))) is Base.Inner
        assert pool.map(own, range(3), chunksize=1) == [1, 2, 3]
        assert pool.apply(node, (3,)) == 3
        assert pool.apply(returns_itself, (3,)) is returns_itself
        assert all(pool.imap(elsewhere, range(3))) or sys.argv[1] != "fork"
        try:
            pool.apply(fail, (3,))
        except Failure as e:
            assert e.args == (3,)
        else:
            raise AssertionError
        assert pool.map(lambda x: x + value.value, [1]) == [12]
        k = 3
        def recursive(n):
            return k if n == 0 else recursive(n - 1)
        def other(n):
            return recursive(n) + 1
        class Local:
            def __init__(self, x):
                self.x = x
            def get(self):
                return __class__.__qualname__, self.x
        assert pool.map(recursive, range(3)) == [3, 3, 3]
        assert pool.map(other, range(3)) == [4, 4, 4]
        assert pool.apply(Local(3).get) == (Local.__qualname__, 3)
        for unpicklable in (lambda: lambda: 1), (lambda: Local(3)):
            try:
                pool.apply(unpicklable)
            except fastmp.pool.MaybeEncodingError:
                pass
            else:
                raise AssertionError

def later_in_pool():
    global later, Later, helper
    with ctx.Pool(1) as pool:
        pool.apply(even, (2,))
        exec("def later(x): return helper(x), Later(x).x", globals())
        exec("def helper(x): return 1", globals())
        exec("class Later(Base): pass", globals())
        assert pool.map(later, [5]) == [(1, 5)]
        assert type(pool.apply(Later, (5,))) is Later
        exec("def helper(x): return 2", globals())
        assert pool.map(later, [5]) == [(2, 5)]
        before = later
        exec("def later(x): return 3", globals())
        assert pool.map(later, [5]) == [3]
        assert pool.map(functools.partial(later), [5]) == [3]
        later = before
        assert pool.map(later, [5]) == [(2, 5)]

def replaced_workers():
    with ctx.Pool(1, maxtasksperchild=1) as pool:
        exec("def newest(x): return 1", globals())
        assert pool.map(newest, range(2), chunksize=1) == [1, 1]
        old = newest
        exec("def newest(x): return 2", globals())
        assert pool.map(newest, range(2), chunksize=1) == [2, 2]
        assert pool.map(old, range(2), chunksize=1) == [1, 1]

def in_processes():
    queue = ctx.Queue()
    def run(target, *args):
        child = ctx.Process(target=target, args=args)
        child.start()
        result = queue.get(timeout=30)
        child.join(30)
        assert child.exitcode == 0
        return result
    child = Child(queue)
    child.start()
    name, point = queue.get(timeout=30)
    child.join(30)
    assert (name, type(point), child.exitcode) == ("child", Point, 0)
    assert run(lambda: queue.put(math.sqrt(even(4)))) == 1
    assert run(grandparent, queue) is True
    assert run(queue.put, Point(7)).x == 7
    box = ctx.Queue()
    box.put([Point(7), even, Record(1), Colour.BLUE, Pair(1, 2), factorial, Base.Inner()])
    got = run(pass_on, queue, box)
    assert [type(obj) for obj in got[:2]] == [Point, type(even)] and got[2:] == [6, True, 2, 2, 22]
    assert run((lambda stream: queue.put(stream is sys.stdout)), sys.stdout) is True

if __name__ == "__main__":
    in_pool()
    later_in_pool()
    replaced_workers()
    in_processes()
    print("done")
"""


def interactive(source):
    """A program as it would be typed."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        yield from (line for line in lines[first - 1 : node.end_lineno] if line.strip())
        yield ""


def command(how, folder):
    """The command that runs PROGRAM, and what it reads."""
    python, program = [sys.executable], "program.py"
    (folder / program).write_text(PROGRAM)
    if how == "-c":
        return [*python, "-c", PROGRAM], ""
    if how == "-":
        return [*python, "-"], PROGRAM
    if how == "-i":
        return [*python, "-q", "-i", "-"], "\n".join([*interactive(PROGRAM), ""])
    if how == "file":
        return [*python, program], ""
    if how == "-m":
        return [*python, "-m", "program"], ""
    if how == "zip":
        with zipfile.ZipFile(folder / "program.zip", "w") as file:
            file.writestr("__main__.py", PROGRAM)
        return [*python, "program.zip"], ""
    (folder / "package").mkdir()
    (folder / "package" / "__main__.py").write_text(PROGRAM)
    return ([*python, "package"] if how == "folder" else [*python, "-m", "package"]), ""


def run(arguments, stdin="", **kwargs):
    return subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=DEADLINE, **kwargs)


@pytest.mark.parametrize("how", ["-c", "-", "-i", "file", "-m", "zip", "folder", "-m package"])
def test_a_main_module(how, start_method, tmp_path):
    arguments, stdin = command(how, tmp_path)
    done = run([*arguments, start_method], stdin, cwd=tmp_path)
    assert done.stdout.replace(">>> ", "").strip() == "done", done.stderr
    assert done.returncode == 0


UNPICKLABLE = """
import os, sys, threading
import fastmp

ctx = fastmp.get_context(sys.argv[1])
lock = threading.Lock()
reader, writer = ctx.Pipe(duplex=False)

def target(writer):
    with lock:
        print("never printed")

def not_sent():
    return reader, ctx.Lock()

def fail():
    try:
        ctx.Process(target=target, args=(writer,)).start()
    except TypeError as e:
        print(e)
    return len(os.listdir("/proc/self/fd"))

first = fail()
fail()
print(fail() - first, fastmp.active_children())
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_global_that_cannot_be_pickled(method):
    done = run([sys.executable, "-c", UNPICKLABLE, method])
    assert done.stdout.splitlines() == ["cannot pickle '_thread.lock' object"] * 3 + ["0 []"], done.stderr


# ---- a main module, this one for the tests, that the child can import ------------------------------------

LOCK = threading.Lock()  # which nothing can pickle
REFUSALS = (pickle.PicklingError, AttributeError, TypeError)  # the last if the main module is not a file
setting = None


def set_here(value):
    global setting
    setting = value


def a_function():
    pass


def fails(ctx, target, *args):
    """What starting the process raises."""
    child = ctx.Process(target=target, args=args)
    with pytest.raises(Exception) as caught:
        child.start()
    assert child.pid is None
    return caught.value


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_argument_that_cannot_be_pickled(method):
    ctx = fastmp.get_context(method)
    reader, writer = ctx.Pipe()
    with reader, writer:
        assert str(fails(ctx, print, writer, LOCK)) == "cannot pickle '_thread.lock' object"
        assert type(fails(ctx, lambda lock=LOCK: 0, writer)) in REFUSALS
        with open(__file__) as file:
            assert type(fails(ctx, print, file)) is TypeError
        assert type(fails(ctx, print, memoryview(b"abc"))) is TypeError
        assert type(fails(ctx, lambda: (yield), (n for n in ()))) in REFUSALS
        child = ctx.Process(target=lambda: writer.send("fine"))
        child.start()
        assert reader.recv() == "fine"
        child.join(DEADLINE)
        assert child.exitcode == 0


def test_lambdas_and_closures(start, ctx):
    queue = ctx.Queue()
    lock, event, (reader, writer) = ctx.Lock(), ctx.Event(), ctx.Pipe(duplex=False)

    def local(x, *, more=1):
        with lock:
            event.set()
            writer.send((x, more))

    class Local(ctx.Process):
        def run(self):
            super().run()
            queue.put(type(self).__qualname__)

    start(lambda: local(3))
    start(local, 4)
    assert sorted([reader.recv(), reader.recv()]) == [(3, 1), (4, 1)]
    assert event.wait(DEADLINE)
    child = Local()
    child.start()
    assert queue.get(timeout=DEADLINE) == Local.__qualname__
    child.join(DEADLINE)
    assert child.exitcode == 0
    reader.close()
    writer.close()


def test_only_for_children(ctx):
    queue, (reader, writer) = ctx.Queue(), ctx.Pipe()
    with reader, writer:
        for send in queue.put, writer.send:
            with pytest.raises((pickle.PicklingError, AttributeError)):
                send(lambda: 0)


def test_the_globals_of_a_module_are_those_of_its_functions(ctx):
    with ctx.Pool(1, initializer=lambda value: set_here(value), initargs=(5,)) as pool:
        assert pool.map(lambda x: (setting, x), range(2)) == [(5, 0), (5, 1)]
    assert setting is None


def test_handles_in_tasks(ctx):
    value, queue = ctx.Value("i", 0), ctx.Queue()

    def add(x):
        with value.get_lock():
            value.value += x
        queue.put(x)

    with ctx.Pool(2) as pool:
        objects = _core.arena_info()["objects"]
        pool.map(add, range(10), chunksize=1)
        assert value.value == 45
        assert sorted(queue.get(timeout=DEADLINE) for _ in range(10)) == list(range(10))
        with pytest.raises(REFUSALS):
            pool.apply(lambda x, lock=LOCK: (add, lock), (1,))
        with pytest.raises(TypeError, match="lock"):
            pool.apply(print, (value, LOCK))
        assert pool.apply(lambda: value.value) == 45
        gc.collect()
        assert _core.arena_info()["objects"] <= objects


def test_every_kind_of_call(ctx):
    k = 10
    got = []
    with ctx.Pool(2) as pool:
        assert pool.starmap(lambda x, y: x + y + k, [(1, 2), (3, 4)]) == [13, 17]
        assert list(pool.imap(lambda x: x + k, range(5), chunksize=2)) == [10, 11, 12, 13, 14]
        assert sorted(pool.imap_unordered(lambda x: x + k, iter(range(5)))) == [10, 11, 12, 13, 14]
        result = pool.apply_async(lambda x, y=1: x + y + k, (1,), {"y": 5}, callback=got.append)
        result.wait(DEADLINE)
        assert result.get() == 16 and got == [16]
        assert pool.apply(sorted, ([3, 1, 2],), {"key": lambda x: -x}) == [3, 2, 1]


def test_a_manager_with_lambdas(ctx):
    class Manager(fastmp.managers.BaseManager):
        pass

    Manager.register("get_list", callable=lambda: [1, 2], proxytype=fastmp.managers.ListProxy)
    with Manager(ctx=ctx) as manager:
        assert list(manager.get_list()) == [1, 2]


# ---- what becomes of a function and of a class ------------------------------------------------------------


SLOTS = [
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
]


def copy(obj):
    return pickle.loads(_by_value.dumps(obj, {}))


def test_a_function_is_complete():
    def function(a: int, /, b: str = "b", *args: int, c: float = 1.5, **kwargs: int) -> dict:
        """What it does."""
        return locals()

    function.attribute = [1]
    other = copy(function)
    assert other is not function
    for name in SLOTS:
        assert getattr(other, name) == getattr(function, name), name
    assert other.__dict__ == {"attribute": [1]}
    assert other(1, "x", 2, c=2, d=3) == function(1, "x", 2, c=2, d=3)
    assert other.__globals__ is globals()
    assert copy(a_function) is a_function


def test_cells():
    def make():
        def early():
            return late()

        before = copy(early)  # its cell is empty

        def late():
            return 1

        return before, early

    before, early = make()
    with pytest.raises(NameError):
        before()
    assert copy(early)() == 1

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    def both():
        return even, odd

    one, two = copy(both)()
    assert one(4) and not two(4)
    assert one.__closure__[0].cell_contents is two
    assert two.__closure__[0].cell_contents is one
    first, second = copy([odd, even])
    assert first.__closure__[0].cell_contents is second


def test_kinds_of_functions():
    def generate(n):
        yield from range(n)

    async def wait():
        return 1

    assert list(copy(generate)(3)) == [0, 1, 2]
    with pytest.raises(StopIteration) as caught:
        copy(wait)().send(None)
    assert caught.value.value == 1
    exec_globals = {"__name__": "nowhere", "n": 1}
    exec("def f():\n global n\n n += 1\n return n\ndef g(): return n", exec_globals)
    f, g = copy([exec_globals["f"], exec_globals["g"]])
    assert (f(), f(), g(), exec_globals["n"]) == (2, 3, 3, 1)
    assert copy(os.path) is os.path


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no type parameters")
def test_type_parameters():
    names = {"__name__": "nowhere"}
    exec("def f[T](x: T) -> T: return x", names)
    other = copy(names["f"])
    assert [str(parameter) for parameter in other.__type_params__] == ["T"]
    assert other(1) == 1


def test_a_class_is_one_class():
    class Meta(type):
        def __call__(cls, *args):
            return super().__call__(*args)

    class Local(metaclass=Meta):
        __slots__ = ("x",)

        def __init__(self, x):
            self.x = x

        def own_class(self):
            return __class__

    assert copy(Local) is Local  # which this process has
    assert copy(Local(3)).x == 3
    assert copy(Local(3)).own_class() is Local
