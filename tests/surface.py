"""A script: writes the surface of a package to a file, as JSON. Arguments: the package,
the file, and the file of the package that this one is compared with.

test_surface.py runs it on fastmp and on the standard library and compares. `names` maps each name to what
it is: a module, a class, a callable with its signature, a property, data. A name belongs to the surface of
a module if it is in `__all__`, or public and defined there (not merely imported there), or in PRIVATE: what
the libraries and the tests that come with CPython read. Members of a class are its public ones, the special
methods that say what it can do, and those in PRIVATE. `raised` maps each of the bad calls of CALLS to the
type of the exception and its message.
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

# Bad calls and the like; `mp` is the package. Each runs in a namespace of its own. What is no expression
# is a few statements; the last of them should raise.
CALLS = r"""
mp.Lock(1)
mp.Lock(foo=1)
mp.RLock(1)
mp.Semaphore('a')
mp.Semaphore(1.5)
mp.Semaphore(-1)
mp.Semaphore(None)
mp.Semaphore(2**31)
mp.Semaphore(2**70)
mp.Semaphore(1, 2)
mp.Semaphore(valeu=1)
mp.BoundedSemaphore('a')
mp.BoundedSemaphore(-1)
mp.Condition(1)
mp.Condition(threading.Lock())
mp.Condition(lok=None)
mp.Event(1)
mp.Barrier()
mp.Barrier('a')
mp.Barrier(0)
mp.Barrier(-1)
mp.Barrier(1.5)
mp.Barrier(2, timeout='a')
mp.Barrier(1, action=3).wait()
mp.Barrier(2).wait('a')
mp.Barrier(2).wait(0.001)
mp.Barrier(2).wait(-1)
b = mp.Barrier(2); b.abort(); b.wait()
mp.Lock().release()
mp.RLock().release()
mp.Lock().acquire('a', 'b')
mp.Lock().acquire(True, 'b')
mp.Lock().acquire(timeout='b')
mp.Lock().acquire(tmieout=1)
mp.Lock().acquire(True, 1, 2)
mp.Lock().acquire(False, -5)
mp.Lock().acquire(True, -5)
mp.Lock().acquire(False, 5)
mp.Lock().release(1)
mp.Lock().acquire(True, float('nan'))
l = mp.Lock(); l.acquire(); l.acquire(timeout=float('-inf'))
mp.Lock().acquire(True, 10**30)
mp.Lock().__enter__(1)
mp.Lock().__exit__()
mp.Lock().__exit__(None, None, None)
mp.RLock().__exit__(None, None, None)
mp.Lock().foo
mp.Semaphore().release(2)
mp.Semaphore().get_value(1)
mp.BoundedSemaphore().release()
mp.Condition().wait()
mp.Condition().wait(0)
mp.Condition().notify()
mp.Condition().notify_all()
mp.Condition().notify(1.5)
c = mp.Condition(); c.acquire(); c.notify(-1)
c = mp.Condition(); c.acquire(); c.notify('a')
c = mp.Condition(); c.acquire(); c.wait('a')
c = mp.Condition(); c.acquire(); c.wait_for(3, 1)
c = mp.Condition(); c.acquire(); c.wait_for(lambda: 0, 'a')
mp.Condition().release()
c = mp.Condition(mp.Lock()); c.release()
mp.Event().wait('a')
mp.Event().set(1)
pickle.dumps(mp.Lock())
pickle.dumps(mp.RLock())
pickle.dumps(mp.Semaphore())
pickle.dumps(mp.Condition())
pickle.dumps(mp.Event())
pickle.dumps(mp.Barrier(2))
pickle.dumps(mp.Queue())
pickle.dumps(mp.SimpleQueue())
pickle.dumps(mp.JoinableQueue())
pickle.dumps(mp.Value('i'))
pickle.dumps(mp.Array('i', 2))
pickle.dumps(mp.Process())
pickle.dumps(mp.current_process().authkey)
copy.copy(mp.Lock())
copy.deepcopy(mp.Queue())
mp.Queue('a')
mp.Queue(1.5)
mp.Queue(None)
mp.Queue(-1)
mp.Queue(1, 2)
mp.Queue(mxasize=1)
mp.Queue(2**40)
mp.Queue().get(False)
mp.Queue().get_nowait()
mp.Queue().get(timeout=0)
mp.Queue().get(timeout=-1)
mp.Queue().get(timeout=0.001)
mp.Queue().get(timeout='a')
mp.Queue().get(True, None, 1)
mp.Queue().get(tmieout=1)
mp.Queue().get_nowait(1)
mp.Queue().put()
mp.Queue().put(1, 2, 3, 4)
mp.Queue().put(1, tmieout=2)
mp.Queue().put_nowait()
mp.Queue().qsize(1)
q = mp.Queue(1); q.put(1); q.put(2, False)
q = mp.Queue(1); q.put(1); q.put_nowait(2)
q = mp.Queue(1); q.put(1); q.put(2, timeout=0.001)
q = mp.Queue(1); q.put(1); q.put(2, timeout=-1)
q = mp.Queue(1); q.put(1); q.put(2, timeout='a')
q = mp.Queue(); q.close(); q.put(1)
q = mp.Queue(); q.close(); q.get()
q = mp.Queue(); q.close(); q.get(False)
q = mp.Queue(); q.close(); q.empty()
q = mp.Queue(); q.close(); q.qsize()
q = mp.Queue(); q.close(); q.full()
q = mp.Queue(); q.close(); q.close()
q = mp.Queue(); q.close(); q.join_thread()
mp.Queue().join_thread()
mp.Queue().cancel_join_thread(1)
mp.Queue().task_done()
mp.Queue[int]
mp.queues.Queue()
mp.queues.Queue(1)
mp.queues.Queue[int]
mp.queues.SimpleQueue()
mp.queues.SimpleQueue[int]
mp.queues.JoinableQueue()
mp.JoinableQueue('a')
mp.JoinableQueue().task_done()
mp.JoinableQueue().task_done(1)
mp.JoinableQueue().join(1)
q = mp.JoinableQueue(); q.close(); q.put(1)
q = mp.JoinableQueue(); q.close(); q.task_done()
mp.SimpleQueue(1)
mp.SimpleQueue().put()
mp.SimpleQueue().get(tmieout=1)
mp.SimpleQueue().put(lambda: 1)
mp.SimpleQueue().put(threading.Lock())
q = mp.SimpleQueue(); q.close(); q.put(1)
q = mp.SimpleQueue(); q.close(); q.get()
q = mp.SimpleQueue(); q.close(); q.empty()
q = mp.SimpleQueue(); q.close(); q.close()
mp.Pipe(1, 2)
mp.Pipe(dupelx=True)
mp.Pipe(False)[0].send(1)
mp.Pipe(False)[1].recv()
mp.Pipe(False)[1].poll()
mp.Pipe(False)[0].send_bytes(b'')
mp.Pipe(False)[1].recv_bytes()
a, b = mp.Pipe(); a.send()
a, b = mp.Pipe(); a.send(lambda: 1)
a, b = mp.Pipe(); a.send(threading.Lock())
a, b = mp.Pipe(); a.send(1, 2)
a, b = mp.Pipe(); a.send(ojb=2)
a, b = mp.Pipe(); a.send_bytes('text')
a, b = mp.Pipe(); a.send_bytes(3)
a, b = mp.Pipe(); a.send_bytes(None)
a, b = mp.Pipe(); a.send_bytes(b'abc', -1)
a, b = mp.Pipe(); a.send_bytes(b'abc', 4)
a, b = mp.Pipe(); a.send_bytes(b'abc', 1, -1)
a, b = mp.Pipe(); a.send_bytes(b'abc', 1, 5)
a, b = mp.Pipe(); a.send_bytes(b'abc', 'a')
a, b = mp.Pipe(); a.send_bytes(b'abc', 1, 'a')
a, b = mp.Pipe(); a.send_bytes(b'abc', ofset=1)
a, b = mp.Pipe(); a.send_bytes(memoryview(bytes(8)).cast('I'), 5)
a, b = mp.Pipe(); a.send_bytes(memoryview(bytes(8))[::2])
a, b = mp.Pipe(); a.poll('a')
a, b = mp.Pipe(); a.poll(-1)
a, b = mp.Pipe(); a.poll(1, 2)
a, b = mp.Pipe(); a.poll(tmieout=2)
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes(-1)
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes(1)
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes(1); a.recv_bytes()
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes('a')
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv()
a, b = mp.Pipe(); b.send_bytes(b''); a.recv()
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into(b'xxx')
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into(bytearray(2))
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into(bytearray(4), 2)
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into(bytearray(4), -1)
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into(bytearray(4), 5)
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into('abcd')
a, b = mp.Pipe(); b.send_bytes(b'abc'); a.recv_bytes_into()
a, b = mp.Pipe(); b.close(); a.recv()
a, b = mp.Pipe(); b.close(); a.send(1)
a, b = mp.Pipe(); b.close(); a.recv_bytes()
a, b = mp.Pipe(); a.close(); a.recv()
a, b = mp.Pipe(); a.close(); a.send(1)
a, b = mp.Pipe(); a.close(); a.send_bytes(b'')
a, b = mp.Pipe(); a.close(); a.recv_bytes()
a, b = mp.Pipe(); a.close(); a.recv_bytes_into(bytearray(1))
a, b = mp.Pipe(); a.close(); a.poll()
a, b = mp.Pipe(); a.close(); a.fileno()
a, b = mp.Pipe(); a.close(); a.close()
a, b = mp.Pipe(); a.close(); a.__enter__()
a, b = mp.Pipe(); a.close(); a.readable, a.writable, a.closed
a, b = mp.Pipe(); a.closed = 1
a, b = mp.Pipe(); a.readable = 1
a, b = mp.Pipe(); pickle.dumps(a)
mp.connection.Connection()
mp.connection.Connection('a')
mp.connection.Connection(-1)
mp.connection.Connection(1.5)
mp.connection.Connection(3, readable=False, writable=False)
mp.connection.Connection(3, raedable=False)
mp.connection.wait()
mp.connection.wait(3)
mp.connection.wait(['a'])
mp.connection.wait([-1], 0)
mp.connection.wait([None])
mp.connection.wait([], 0)
mp.connection.wait(mp.Pipe(), 'a')
mp.connection.wait(mp.Pipe(), 0)
mp.connection.wait(mp.Pipe(), -1)
mp.connection.wait([10**6], 0)
mp.connection.Client()
mp.connection.Client(3)
mp.connection.Client('/nowhere/at/all')
mp.connection.Client(('localhost', 'x'))
mp.connection.Client(('localhost', 0))
mp.connection.Client('/nowhere/at/all', family='AF_FOO')
mp.connection.Client('/nowhere/at/all', family='AF_PIPE')
mp.connection.Client('/nowhere/at/all', authkey='text')
mp.connection.Client('/nowhere/at/all', authkey=3)
mp.connection.Listener(3)
mp.connection.Listener('/nowhere/at/all')
mp.connection.Listener(('localhost', 'x'))
mp.connection.Listener(family='AF_FOO')
mp.connection.Listener(family='AF_PIPE')
mp.connection.Listener(authkey='text')
mp.connection.Listener(backlog='a')
mp.connection.Listener('x' * 200)
l = mp.connection.Listener(); l.close(); l.accept()
l = mp.connection.Listener(); l.close(); l.close()
l = mp.connection.Listener(); l.close(); l.address
l = mp.connection.Listener(); l.accept(1)
mp.connection.address_type(3)
mp.connection.address_type(None)
mp.connection.address_type(('a',))
mp.connection.address_type('')
mp.connection.arbitrary_address('AF_FOO')
mp.connection.deliver_challenge(mp.Pipe()[0], 'text')
mp.connection.answer_challenge(mp.Pipe()[0], 'text')
a, b = mp.Pipe(); b.send_bytes(b'wrong'); mp.connection.deliver_challenge(a, b'key')
a, b = mp.Pipe(); b.send_bytes(b'wrong'); mp.connection.answer_challenge(a, b'key')
mp.Value()
mp.Value('?!')
mp.Value('q1')
mp.Value(3)
mp.Value(None)
mp.Value(int)
mp.Value('i', 'a')
mp.Value('i', 1.5)
mp.Value('i', 1, 2)
mp.Value('i', 2**40)
mp.Value('d', 'a')
mp.Value('c', 'a')
mp.Value('c', 3)
mp.Value('c', b'ab')
mp.Value('u', b'a')
mp.Value('i', lcok=1)
mp.Value('i', lock=3)
mp.Value('i', lock='a')
mp.Value('i', lock=None)
mp.Value('i', lock=mp.Pipe()[0])
mp.Value('i', lock=threading.Lock())
mp.Value('i', lock=False).get_lock()
v = mp.Value('i'); v.value = 'a'
v = mp.Value('i'); v.value = 1.5
v = mp.Value('i'); v.value = None
v = mp.Value('i'); v.value = 2**70
v = mp.Value('d'); v.value = 'a'
v = mp.Value('B'); v.value = -1
v = mp.Value('c'); v.value = b'ab'
v = mp.Value('i'); del v.value
v = mp.Value('i'); v.vlaue
mp.Value('i').get_obj(1)
mp.Value('i')[0]
len(mp.Value('i'))
mp.Value('i') + 1
int(mp.Value('i'))
mp.Array()
mp.Array('i')
mp.Array('i', -1)
mp.Array('i', 'ab')
mp.Array('i', 1.5)
mp.Array('i', None)
mp.Array('i', ['a'])
mp.Array('i', [1.5])
mp.Array('i', (x for x in 'ab'))
mp.Array('i', {1, 2})
mp.Array('zz', 3)
mp.Array(None, 3)
mp.Array(3, 3)
mp.Array('i', 3, True)
mp.Array('i', 3, lock=3)
mp.Array('i', 3, lcok=3)
mp.Array('c', 'ab')
mp.Array('c', 3.5)
mp.Array('i', 2**62)
mp.Array('i', 0)
mp.Array('i', 3)[3]
mp.Array('i', 3)[-4]
mp.Array('i', 3)['a']
mp.Array('i', 3)[1.5]
mp.Array('i', 3)[2**70]
mp.Array('i', 3)[0:'a']
mp.Array('i', 3)[::0]
a = mp.Array('i', 3); a[3] = 1
a = mp.Array('i', 3); a[0] = 'a'
a = mp.Array('i', 3); a[0] = 1.5
a = mp.Array('i', 3); a['a'] = 1
a = mp.Array('i', 3); a[:] = [1]
a = mp.Array('i', 3); a[:] = [1, 2, 3, 4]
a = mp.Array('i', 3); a[0:2] = ['a', 'b']
a = mp.Array('i', 3); a[:] = 3
a = mp.Array('i', 3); a[::2] = [1]
a = mp.Array('i', 3); del a[0]
a = mp.Array('i', 3); a.value
a = mp.Array('i', 3); a.foo
a = mp.Array('c', 3); a.value = b'abcd'
a = mp.Array('c', 3); a.value = 'ab'
a = mp.Array('c', 3); a.raw = b'abcd'
a = mp.Array('c', 3); a.raw = 'ab'
a = mp.Array('c', 3); a[0] = b'ab'
a = mp.Array('c', 3); a[0] = 'a'
a = mp.Array('c', 3); a[0] = 300
mp.RawValue()
mp.RawValue('zz')
mp.RawValue('i', 'a')
mp.RawValue('i', 1, 2)
mp.RawValue(int)
mp.RawValue('i').get_lock()
mp.RawArray()
mp.RawArray('i')
mp.RawArray('zz', 3)
mp.RawArray('i', -1)
mp.RawArray('i', 'a')
mp.RawArray('i', 1.5)
mp.RawArray('i', lock=True)
mp.sharedctypes.copy(3)
mp.sharedctypes.copy(ctypes.c_int)
mp.sharedctypes.synchronized(3)
mp.sharedctypes.synchronized(ctypes.c_int)
mp.sharedctypes.synchronized(mp.RawValue('i'), 3)
mp.sharedctypes.synchronized(mp.Value('i'))
mp.Process(1)
mp.Process(None, None, None, 3)
mp.Process(args=3)
mp.Process(kwargs=3)
mp.Process(kwargs=[1])
mp.Process(kwrags={})
mp.Process(None, None, None, (), {}, True)
mp.Process(target=3)
mp.Process(name=3)
mp.Process(daemon='a').daemon
p = mp.Process(); p.name = 3
p = mp.Process(); p.daemon = 'a'
p = mp.Process(); p.authkey = 3
p = mp.Process(); p.authkey = 'text'
p = mp.Process(); p.pid = 3
p = mp.Process(); p.exitcode = 3
p = mp.Process(); p.sentinel = 3
mp.Process().sentinel
mp.Process().join()
mp.Process().join('a')
mp.Process().terminate()
mp.Process().kill()
mp.Process().is_alive()
mp.Process().exitcode
mp.Process().pid
mp.Process().close()
mp.Process().start(1)
p = mp.Process(); p.close(); p.start()
p = mp.Process(); p.close(); p.join()
p = mp.Process(); p.close(); p.is_alive()
p = mp.Process(); p.close(); p.terminate()
p = mp.Process(); p.close(); p.exitcode
p = mp.Process(); p.close(); p.ident
p = mp.Process(); p.close(); p.sentinel
p = mp.Process(); p.close(); p.name
p = mp.Process(); p.close(); p.daemon
p = mp.Process(); p.close(); p.close()
p = mp.Process(); p.close(); repr(p)
p = Child(); p.start(); p.join(); p.start()
p = Child(); p.start(); p.join(); p.join('a')
p = Child(); p.start(); p.join(); p.terminate()
p = Child(); p.start(); p.join(); p.close(); p.exitcode
p = Child(); p.start(); p.join(); p.daemon = True
p = Child(); p.start(); p.start()
p = Child(); p.start(); p.join(timeout='a')
p = Child(); p.start(); p.join(timeuot=1)
p = Child(); p.start(); p.daemon = True
p = Sleeper(); p.start(); p.close()
class P(mp.Process):
    def __init__(self): pass
P().start()
class P(mp.Process):
    def __init__(self): pass
repr(P())
mp.current_process().join()
mp.current_process().terminate()
mp.current_process().kill()
mp.current_process().is_alive()
mp.current_process().start()
mp.current_process().close()
mp.current_process().exitcode
mp.current_process().sentinel
mp.current_process().run()
mp.current_process(1)
mp.active_children(1)
mp.parent_process()
mp.parent_process(1)
mp.process.BaseProcess()
mp.process.BaseProcess().start()
mp.process.AuthenticationString('a')
mp.process.AuthenticationString(3.5)
pickle.dumps(mp.process.AuthenticationString(b'a'))
mp.cpu_count(1)
mp.freeze_support(1)
mp.get_logger(1)
mp.log_to_stderr('NOLEVEL')
mp.log_to_stderr([])
mp.get_context('foo')
mp.get_context(3)
mp.get_context('Fork')
mp.get_context([])
mp.get_context('fork').set_start_method('spawn')
mp.get_context('fork').set_start_method('spawn', force=True)
mp.get_context('fork').get_context('foo')
mp.get_context('fork').get_start_method(True)
mp.get_context('fork').get_all_start_methods()
mp.set_start_method('foo')
mp.set_start_method(3)
mp.set_start_method()
mp.set_start_method(None)
mp.get_start_method(1, 2)
mp.set_start_method('fork', True); mp.set_start_method('spawn')
mp.set_forkserver_preload(3)
mp.set_forkserver_preload('os')
mp.set_forkserver_preload([3])
mp.set_forkserver_preload()
mp.set_executable()
mp.set_executable(3)
mp.allow_connection_pickling(1)
mp.reducer
mp.nothing
mp.context.assert_spawning(3)
mp.context.BaseContext()
mp.context.DefaultContext()
mp.Pool('a')
mp.Pool(0)
mp.Pool(-1)
mp.Pool(1.5)
mp.Pool(1, 3)
mp.Pool(1, initializer='a')
mp.Pool(1, initargs=3)
mp.Pool(1, maxtasksperchild=0)
mp.Pool(1, maxtasksperchild=-1)
mp.Pool(1, maxtasksperchild='a')
mp.Pool(1, maxtasksperchild=1.5)
mp.Pool(porcesses=1)
mp.pool.ThreadPool('a')
mp.pool.ThreadPool(0)
mp.pool.ThreadPool(1, 3)
mp.pool.ThreadPool(1, maxtasksperchild=3)
pool.apply()
pool.apply(3)
pool.apply(len)
pool.apply(len, 3)
pool.apply(len, ([],), 3)
pool.apply(len, ([],), {'a': 1})
pool.apply(lambda: 1)
pool.apply(len, (threading.Lock(),))
pool.apply_async()
pool.apply_async(len, ([],)).get('a')
pool.apply_async(len, ([],), callbakc=3)
pool.apply_async(time.sleep, (0.5,)).get(0.001)
pool.apply_async(time.sleep, (0.5,)).get(timeout=-1)
pool.apply_async(time.sleep, (0.5,)).successful()
pool.apply_async(time.sleep, (0.5,)).wait('a')
pool.apply_async(int, ('a',)).get(30)
pool.map()
pool.map(len)
pool.map(len, 3)
pool.map(len, None)
pool.map(len, [3])
pool.map(len, [[1]], 'a')
pool.map(len, [[1]], 0)
pool.map(len, [[1]], -1)
pool.map(len, [[1]], 1.5)
pool.map(len, [[1]], 1, 2)
pool.map(len, iter([]))
pool.map(3, [1])
pool.map(lambda x: x, [1])
pool.map(len, [threading.Lock()])
pool.map_async(len, 3)
pool.map_async(len, [[1]], 'a').get(30)
pool.map_async(time.sleep, [0.5]).get(0.001)
pool.map_async(time.sleep, [0.5]).successful()
pool.starmap(len, [3])
pool.starmap(len, [(1, 2)])
pool.starmap(len, 3)
pool.starmap_async(len, 3)
pool.imap()
pool.imap(len, 3)
pool.imap(len, [1], 0)
pool.imap(len, [1], -1)
pool.imap(len, [1], 'a')
pool.imap(len, [1], 1.5)
next(pool.imap(len, []))
next(pool.imap(len, [3]))
next(pool.imap(len, [lambda: 1]))
pool.imap(len, [[1]]).next('a')
pool.imap(time.sleep, [0.5]).next(0.001)
pool.imap(time.sleep, [0.5]).next(timeout=-1)
pool.imap(len, [[1]])[0]
len(pool.imap(len, [[1]]))
pool.imap_unordered(len, 3)
pool.imap_unordered(len, [1], 0)
pool.imap_unordered(len, [1], 'a')
next(pool.imap_unordered(len, []))
next(pool.imap_unordered(len, [3]))
pool.join()
pool.close(1)
pool.terminate(1)
pickle.dumps(pool)
copy.copy(pool)
pool.nothing
closed.apply(len, ([],))
closed.apply_async(len, ([],))
closed.map(len, [])
closed.map_async(len, [])
closed.imap(len, [])
closed.imap_unordered(len, [])
closed.starmap(len, [])
closed.close()
closed.terminate()
closed.join(1)
closed.join()
closed.__enter__()
threads.apply(len, 3)
threads.apply(3)
threads.map(len, 3)
threads.map(len, [3])
threads.map(len, [[1]], 'a')
threads.imap(len, [1], 0)
threads.join()
mp.pool.ApplyResult()
mp.pool.Pool[int]
mp.pool.ApplyResult[int]
mp.pool.MaybeEncodingError()
mp.pool.MaybeEncodingError(1, 2)
mp.pool.RemoteTraceback()
mp.pool.ExceptionWithTraceback(1, 2)
mp.shared_memory.SharedMemory()
mp.shared_memory.SharedMemory('fmp_no_such_thing')
mp.shared_memory.SharedMemory(3)
mp.shared_memory.SharedMemory(create=True)
mp.shared_memory.SharedMemory(create=True, size=0)
mp.shared_memory.SharedMemory(create=True, size=-1)
mp.shared_memory.SharedMemory(create=True, size='a')
mp.shared_memory.SharedMemory(creat=True, size=1)
mp.shared_memory.SharedMemory('a/b', create=True, size=1)
mp.shared_memory.SharedMemory('x' * 300, create=True, size=1)
mp.shared_memory.SharedMemory(shm.name, create=True, size=1)
mp.shared_memory.SharedMemory(None)
mp.shared_memory.SharedMemory(name='')
shm.buf[0] = 300
shm.buf[10**6]
shm.buf = 3
shm.size = 3
shm.name = 3
shm.close(1)
v = memoryview(shm.buf)[1:]; w = shm.buf[1:]; shm.close()
mp.shared_memory.ShareableList()
mp.shared_memory.ShareableList(3)
mp.shared_memory.ShareableList([[1]])
mp.shared_memory.ShareableList([2**70])
mp.shared_memory.ShareableList(name='fmp_no_such_thing')
shl[9]
shl[-9]
shl['a']
shl[1:2]
shl[9] = 1
shl[0] = [1]
shl[1] = 'x' * 500
shl[1] = b'x' * 500
shl[0] = 2**70
shl.index(99)
shl.index()
shl.count()
shl.append(1)
shl.format = 3
mp.managers.BaseManager(3)
mp.managers.BaseManager(authkey='text')
mp.managers.BaseManager(authkey=3)
mp.managers.BaseManager(serializer='foo')
mp.managers.BaseManager(adress=3)
mp.managers.BaseManager().connect()
mp.managers.BaseManager(('localhost', 1)).connect()
mp.managers.BaseManager().shutdown()
mp.managers.BaseManager().join()
mp.managers.BaseManager().__exit__(None, None, None)
mp.managers.BaseManager().foo()
mp.managers.BaseManager.register()
mp.managers.BaseManager.register(3)
class M(mp.managers.BaseManager): pass
M.register('a', exposed=3)
mp.managers.SyncManager().list()
mp.managers.SyncManager().Lock()
mp.managers.SyncManager().start(3)
mp.managers.SyncManager().start(initializer='a')
mp.managers.SharedMemoryManager().SharedMemory(3)
mp.managers.SharedMemoryManager().ShareableList([])
manager.start()
manager.connect()
manager.get_server()
manager.list(3)
manager.list([])[0]
manager.list([])['a']
manager.list([]).pop()
manager.list([]).foo
manager.list([]).index(3)
manager.list([]).remove(3)
manager.list([1])[0]()
manager.list([lambda: 1])
manager.list([]).append(lambda: 1)
manager.dict(3)
manager.dict({})['a']
manager.dict({}).pop('a')
manager.dict({}).popitem()
manager.dict({})[[]]
manager.dict({}).foo
hash(manager.list([]))
hash(manager.dict({}))
manager.Namespace().foo
manager.Namespace()._foo
manager.Namespace(1)
manager.Value('i', 1).get(1)
manager.Value('i', 1).foo
manager.Value()
manager.Array('i', [1])[3]
manager.Array('zz', [1])
manager.Array('i', ['a'])
manager.Lock().release()
manager.RLock().release()
manager.Lock().acquire('a')
manager.Semaphore(-1)
manager.BoundedSemaphore(1).release()
manager.Condition().notify()
manager.Condition().wait(0)
manager.Event().wait('a')
manager.Barrier(0)
manager.Barrier(2).wait(0.001)
manager.Queue().get(False)
manager.Queue().get(timeout=-1)
q = manager.Queue(1); q.put(1); q.put(2, False)
manager.Queue('a').put(1)
manager.JoinableQueue().task_done()
manager.Pool(0)
manager.Pool('a')
manager.foo()
manager.list([])._callmethod('foo')
manager.list([])._callmethod('append')
manager.list([])._callmethod('__class__')
pickle.dumps(manager)
mp.managers.BaseProxy()
mp.managers.Token()
mp.managers.RemoteError()
mp.managers.MakeProxyType('X', 3)
mp.managers.Namespace(1)
mp.managers.Value()
mp.managers.Array()
mp.reduction.ForkingPickler()
mp.reduction.ForkingPickler(3)
mp.reduction.ForkingPickler.dumps(lambda: 1)
mp.reduction.ForkingPickler.dumps()
mp.reduction.ForkingPickler.loads(b'')
mp.reduction.ForkingPickler.loads('a')
mp.reduction.ForkingPickler.register()
mp.reduction.ForkingPickler.register(3)
mp.reduction.register(int)
mp.reduction.dump(lambda: 1, io.BytesIO())
mp.reduction.dump(1, 3)
mp.reduction.DupFd('a')
mp.reduction.DupFd(-1)
mp.reduction.send_handle(mp.Pipe()[0], 'a', os.getpid())
mp.reduction.send_handle(3.5, 1, os.getpid())
mp.reduction.recv_handle(3.5)
mp.reduction.sendfds(3, [1])
mp.reduction.recvfds(3, 1)
mp.reduction.AbstractReducer(1)
mp.heap.BufferWrapper()
mp.heap.BufferWrapper(-1)
mp.heap.BufferWrapper('a')
mp.heap.BufferWrapper(2**63)
mp.heap.Arena()
mp.heap.Arena('a')
mp.heap.Heap(3).malloc(-1)
mp.heap.Heap().malloc('a')
mp.heap.Heap().free(3)
mp.util.Finalize()
mp.util.Finalize(None, print)
mp.util.Finalize(3, print)
mp.util.Finalize(None, print, exitpriority='a')
mp.util.Finalize(None, print, exitpriority=1.5)
mp.util.register_after_fork()
mp.util.register_after_fork(3, print)
mp.util.register_after_fork([], print)
mp.util.spawnv_passfds('/nowhere', [b'a'], [])
mp.util.spawnv_passfds(b'/bin/true', 3, [])
mp.util.close_all_fds_except(3)
mp.util.get_temp_dir(1)
mp.util.get_logger(1)
mp.util.ForkAwareThreadLock().foo
mp.util.ForkAwareThreadLock().release()
pickle.dumps(mp.util.ForkAwareLocal())
mp.util.is_exiting(1)
mp.util.log_to_stderr('NOLEVEL')
mp.util.is_abstract_socket_namespace(3)
mp.util.is_abstract_socket_namespace(None)
mp.util.close_fds(-1)
mp.spawn.set_executable()
mp.spawn.set_executable(3)
mp.spawn.get_preparation_data()
mp.spawn.get_preparation_data(3)['name']
mp.spawn.import_main_path('/nowhere.py')
mp.spawn.prepare(3)
mp.spawn.spawn_main()
mp.spawn.spawn_main('a')
mp.spawn.get_command_line(3)
mp.spawn.is_forking(3)
mp.forkserver.set_forkserver_preload(3)
mp.forkserver.set_forkserver_preload([3])
mp.forkserver.connect_to_new_process('a')
mp.forkserver.get_inherited_fds(1)
mp.resource_tracker.register('a')
mp.resource_tracker.register('a', 'no-such-type')
mp.resource_tracker.unregister('a', 'no-such-type')
mp.resource_tracker.getfd(1)
mp.resource_sharer.DupFd('a')
mp.resource_sharer.DupFd(-1)
mp.resource_sharer.stop('a')
mp.popen_fork.Popen()
mp.popen_fork.Popen(3)
mp.popen_spawn_posix.Popen()
mp.popen_forkserver.Popen()
mp.dummy.Process(3)
mp.dummy.Process(args=3).start()
mp.dummy.Process().join()
mp.dummy.Process().exitcode
mp.dummy.Queue('a').put(1)
mp.dummy.Pool(0)
mp.dummy.Pool('a')
mp.dummy.Value()
mp.dummy.Value('i', 1, 2)
mp.dummy.Array('zz', [1])
mp.dummy.Manager(1)
mp.dummy.Pipe(1, 2)
mp.dummy.freeze_support(1)
mp.dummy.Namespace(1)
mp.dummy.Lock(1)
mp.dummy.Semaphore(-1)
a, b = mp.dummy.Pipe(); a.foo
mp.dummy.connection.Client(3)
mp.dummy.connection.Listener(1, 2, 3, 4)
raise mp.TimeoutError(3)
raise mp.BufferTooShort()
raise mp.ProcessError
raise mp.AuthenticationError('a', 1)
"""

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
    for line in CALLS.strip().splitlines():
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
