"""A script: writes the surface of a package to a file, as JSON. Arguments: the package,
the file, and the file of the package that this one is compared with.

test_surface.py runs it on fastmp and on the standard library and compares. `names` maps each name to what
it is: a module, a class, a callable with its signature, a property, data. A name belongs to the surface of
a module if it is in `__all__`, or public and defined there (not merely imported there), or in PRIVATE: what
the libraries and the tests that come with CPython read. Members of a class are its public ones, the special
methods that say what it can do, and those in PRIVATE. `raised` maps each of the bad calls of
surface_calls.txt to the type of the exception and its message.
"""

import contextlib
import importlib
import inspect
import io
import json
import os
import re
import signal
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

MODULES = [
    *("context", "process", "pool", "queues", "connection", "synchronize", "sharedctypes", "shared_memory"),
    *("managers", "reduction", "heap", "util", "spawn", "forkserver", "resource_tracker", "resource_sharer"),
    *("popen_fork", "popen_spawn_posix", "popen_forkserver", "dummy", "dummy.connection"),
]

# Re-exported names that programs take from there, and private ones that libraries and tests read.
PRIVATE = {
    "": ["SUBDEBUG", "SUBWARNING", "context", "process", "reduction", "reducer"],
    "context": ["_force_start_method", "_default_context", "_concrete_contexts"],
    "process": ["_dangling", "_cleanup", "_children", "_current_process", "_process_counter"],
    "process.BaseProcess": ["_bootstrap", "_after_fork", "_Popen", "_check_closed"],
    "pool": ["TimeoutError"],
    "pool.Pool": [
        *("_setup_queues", "_repopulate_pool", "_repopulate_pool_static", "_get_sentinels", "_get_tasks"),
        *("_join_exited_workers", "_maintain_pool", "_handle_workers", "_handle_tasks", "_handle_results"),
        *("_get_worker_sentinels", "_help_stuff_finish", "_terminate_pool", "_check_running", "_map_async"),
        *("_guarded_task_generation", "_wait_for_updates"),
    ],
    "pool.ThreadPool": ["_setup_queues", "_get_sentinels", "_help_stuff_finish"],
    "queues": ["Empty", "Full"],
    "queues.Queue": [
        *("_after_fork", "_reset", "_feed", "_start_thread", "_finalize_join", "_finalize_close"),
        *("_on_queue_feeder_error", "_terminate_broken", "_is_unpicklable_error"),
    ],
    "connection": [
        "_create_response",
        "_verify_challenge",
        "_CHALLENGE",
        "BufferTooShort",
        "AuthenticationError",
    ],
    "connection.Connection": [
        "_send",
        "_recv",
        "_send_bytes",
        "_recv_bytes",
        "_poll",
        "_close",
        "_check_closed",
    ],
    "synchronize.SemLock": ["_make_name", "_make_methods", "_rand"],
    "shared_memory": ["_make_filename", "_SHM_NAME_PREFIX", "_USE_POSIX"],
    "shared_memory.SharedMemory": [
        "_name",
        "_flags",
        "_fd",
        "_mmap",
        "_buf",
        "_mode",
        "_prepend_leading_slash",
    ],
    "shared_memory.ShareableList": ["_get_packing_format"],
    "managers.BaseManager": [
        "_number_of_objects",
        "_debug_info",
        "_create",
        "_finalize_manager",
        "_run_server",
    ],
    "managers.BaseProxy": ["_callmethod", "_getvalue", "_connect", "_incref", "_decref", "_after_fork"],
    "reduction": ["ACKNOWLEDGE"],
    "util": [
        *(
            "_cleanup_tests",
            "_finalizer_registry",
            "_afterfork_registry",
            "_run_finalizers",
            "_exit_function",
        ),
        *(
            "_logger",
            "_log_to_stderr",
            "_run_after_forkers",
            "_flush_std_streams",
            "_args_from_interpreter_flags",
        ),
        *("_close_stdin", "_temp_dir_registry"),
    ],
    "spawn": ["_main", "_fixup_main_from_name", "_fixup_main_from_path", "_check_not_importing_main"],
    "forkserver": ["_forkserver"],
    "forkserver.ForkServer": ["_stop", "_stop_unlocked"],
    "resource_tracker": ["_resource_tracker", "_CLEANUP_FUNCS"],
    "resource_tracker.ResourceTracker": ["_check_alive", "_stop", "_send"],
    "resource_sharer": ["_resource_sharer"],
}

# What an object has only once it was made.
OBJECTS = {
    "Process()": ["_config", "_identity", "_parent_pid", "_popen", "_closed", "_args", "_kwargs", "_target"],
    "Process().authkey": [],
    "current_process()": ["_config", "_identity", "_parent_pid", "_popen", "_closed"],
    "Queue()": [
        *("_reader", "_writer", "_rlock", "_wlock", "_sem", "_ignore_epipe", "_thread", "_maxsize", "_opid"),
        *("_buffer", "_notempty", "_closed", "_joincancelled", "_jointhread", "_close"),
    ],
    "JoinableQueue()": ["_unfinished_tasks", "_cond"],
    "SimpleQueue()": ["_reader", "_writer", "_rlock", "_wlock", "_poll"],
    "Lock()": ["_semlock"],
    "RLock()": ["_semlock"],
    "Semaphore()": ["_semlock"],
    "BoundedSemaphore()": ["_semlock"],
    "Condition()": ["_lock", "_sleeping_count", "_woken_count", "_wait_semaphore"],
    "Event()": ["_cond", "_flag"],
    "Barrier(2)": [],
    "Pipe()[0]": ["_handle"],
    "Value('i')": ["_obj", "_lock"],
    "Array('i', 3)": ["_obj", "_lock"],
    "Array('c', 3)": [],
    "Value('i', lock=False)": [],
    "get_logger()": [],
    "get_context()": ["_name", "_default_context", "_actual_context"],
    "get_context('fork')": ["_name"],
    "get_context('spawn')": ["_name"],
    "get_context('forkserver')": ["_name"],
    "heap.BufferWrapper(8)": ["_heap", "_state"],
    "util.Finalize(None, print, exitpriority=0)": [],
}

# The special methods that say what can be done with an object, not how it is pickled, shown or destroyed.
SPECIAL = {
    *("__call__", "__class_getitem__", "__contains__", "__delitem__", "__enter__", "__exit__", "__getitem__"),
    *("__iadd__", "__imul__", "__ior__", "__add__", "__mul__", "__rmul__", "__or__", "__ror__", "__iter__"),
    *("__len__", "__next__", "__reversed__", "__setitem__", "__bool__", "__int__", "__index__"),
}

CALLS = Path(__file__).with_name("surface_calls.txt")
LIMIT = 10  # seconds for a call; one that does not end by itself is reported as that


def import_all(package: str) -> dict[str, types.ModuleType]:
    """The package as "", and those of its modules that there are."""
    modules = {"": importlib.import_module(package)}
    for name in MODULES:
        with contextlib.suppress(ModuleNotFoundError):
            modules[name] = importlib.import_module(f"{package}.{name}")
    return modules


def names(modules: dict[str, types.ModuleType], package: str) -> Iterator[tuple[str, str]]:
    """Every name of the surface and what it is."""
    for prefix, module in modules.items():
        yield prefix, "module"
        yield f"{prefix}.__all__", "data" if hasattr(module, "__all__") else "none"
        for name in getattr(module, "__all__", []):
            yield f"{prefix}.__all__.{name}", "exported"
        for name in sorted(own_names(prefix, module, package)):
            value = getattr(module, name)
            full = f"{prefix}.{name}".lstrip(".")
            yield full, described(value)
            if isinstance(value, type) and module.__name__ == home(value, modules):
                yield f"{full}()", "call " + signature(value)
                yield from members(full, value)
    for expression, private in OBJECTS.items():
        try:
            value = eval(expression, vars(modules[""]) | modules)
        except Exception as error:
            yield expression, f"raises {type(error).__name__}"
        else:
            yield from members(expression, value, private)


def home(value: type, modules: dict[str, types.ModuleType]) -> str:
    """The first of the modules that has this class: where its members are listed."""
    order = [*list(modules)[1:], ""]  # what the package has as well is that of a module
    owners = [modules[key] for key in order if getattr(modules[key], value.__name__, None) is value]
    said = [module for module in owners if module.__name__ == value.__module__]
    exporting = [module for module in owners if value.__name__ in getattr(module, "__all__", [])]
    return [*(module.__name__ for module in [*said, *exporting, *owners]), ""][0]


def own_names(prefix: str, module: types.ModuleType, package: str) -> set[str]:
    exported = {name for name in getattr(module, "__all__", []) if hasattr(module, name)}
    exported |= {name for name in wanted.get(prefix, []) if hasattr(module, name) and name != "__all__"}
    private = {name for name in PRIVATE.get(prefix, []) if hasattr(module, name)}
    return exported | private | {name for name in dir(module) if is_own(name, module, package, prefix)}


def is_own(name: str, module: types.ModuleType, package: str, prefix: str) -> bool:
    if name.startswith("_"):
        return False
    value = getattr(module, name)
    if name == "TYPE_CHECKING":
        return False
    if isinstance(value, types.ModuleType):
        return prefix == "" and value.__name__.startswith(f"{package}.")
    if isinstance(value, type) or callable(value):
        return getattr(value, "__module__", None) in (module.__name__, None)
    return not type(value).__module__.startswith(("__future__", "_ctypes", "typing"))


def members(prefix: str, owner: object, private: list[str] | None = None) -> Iterator[tuple[str, str]]:
    wanted = PRIVATE.get(prefix, []) if private is None else private
    for name in sorted({*dir(owner), *(name for name in wanted if hasattr(owner, name))}):
        if name in wanted or name in SPECIAL or not name.startswith("_"):
            try:
                value = inspect.getattr_static(owner, name)
                if private is not None or not inspect.isdatadescriptor(value):
                    value = getattr(owner, name)
            except AttributeError:
                pass  # such a name says that it is not there
            except Exception as error:
                yield f"{prefix}.{name}", f"raises {type(error).__name__}"
            else:
                yield f"{prefix}.{name}", "special" if name in SPECIAL else described(value)


def described(value: object) -> str:
    if isinstance(value, types.ModuleType):
        return "module"
    if isinstance(value, property) or inspect.isdatadescriptor(value):
        return "property"
    if isinstance(value, int):
        return "int"
    if type(value) in (float, str, bytes):
        return repr(value)[:60]
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    if isinstance(value, types.GenericAlias):
        return "alias"
    if isinstance(value, type):
        return f"class {value.__name__}"
    return f"callable {signature(value)}" if callable(value) else "data"


def signature(value: object) -> str:
    try:
        found = inspect.signature(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return "(?)"
    plain = [comparable(p) for p in found.parameters.values()]
    text = str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:\w+ )?([\w.]+)(?: object)? at 0x\w+>", r"<\1>", text)


def comparable(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter without what does not matter to callers."""
    plain = parameter.replace(annotation=inspect.Parameter.empty)
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return plain.replace(name="args")
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return plain.replace(name="kwargs")
    if parameter.name == "self":
        return plain.replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    return plain


def statements() -> Iterator[str]:
    """The calls, one of them a string. A class and what follows it belong together."""
    pending = ""
    for line in CALLS.read_text().splitlines():
        if line.startswith("#"):
            continue
        pending += line + "\n"
        if not line.startswith(("class ", " ")):
            yield pending.strip()
            pending = ""


def raised(mp: types.ModuleType) -> Iterator[tuple[str, str]]:
    """What each call raises: the type, a tab, the message."""
    import copy
    import ctypes
    import pickle
    import threading
    import time

    fork = mp.get_context("fork")
    mp.set_start_method("fork", force=True)

    class Child(fork.Process):  # type: ignore[name-defined, misc]
        def run(self) -> None:
            pass

    class Sleeper(fork.Process):  # type: ignore[name-defined, misc]
        def run(self) -> None:
            time.sleep(60)

    closed = mp.Pool(1)
    closed.close()
    closed.join()
    shared = {
        **{"mp": mp, "copy": copy, "ctypes": ctypes, "io": io, "os": os, "pickle": pickle},
        **{"threading": threading, "time": time, "Child": Child, "Sleeper": Sleeper, "closed": closed},
        **{"pool": mp.Pool(1), "threads": mp.pool.ThreadPool(1), "manager": mp.Manager()},
        "shm": mp.shared_memory.SharedMemory(create=True, size=100),
        "shl": mp.shared_memory.ShareableList([1, "text", b"bytes"]),
    }
    for call in statements():
        yield call, outcome(call, dict(shared))
        for child in fork.active_children():
            if isinstance(child, Sleeper):
                child.kill()
                child.join()
        mp.set_start_method("fork", force=True)
    shared["shl"].shm.unlink()
    shared["shm"].unlink()


def outcome(call: str, namespace: dict[str, object]) -> str:
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(call, "call", "exec"), namespace)
    except Hangs:
        return "does not end\t"
    except BaseException as error:
        return f"{qualified(type(error))}\t{error}"
    else:
        return "nothing\t"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Hangs(BaseException):
    """Raised by the alarm."""


def ring(number: int, frame: object) -> None:
    raise Hangs


def qualified(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module.partition(".")[0] in PACKAGES else f"{module}.{kind.__qualname__}"


wanted: dict[str, list[str]] = {}  # what the reference has, from wherever this package took it
PACKAGES = ("multiprocessing", "fastmp")


def main(package: str, output: str, reference: str = "") -> None:
    if reference:
        with open(reference, encoding="utf-8") as file:
            for name in json.load(file)["names"]:
                prefix, _, last = name.rpartition(".")
                wanted.setdefault(prefix, []).append(last)
    signal.signal(signal.SIGALRM, ring)
    modules = import_all(package)
    result = {"names": dict(names(modules, package)), "raised": dict(raised(modules[""]))}
    with open(output, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
    # What was abused above need not come to an end by itself.
    for child in sys.modules[sys.argv[1]].active_children():
        child.kill()
    os._exit(0)
