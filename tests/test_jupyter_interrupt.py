"""Interrupt in Jupyter: the cell that is blocked in a call of ours ends, the next works with what it used.

A kernel is the leader of a session. Jupyter interrupts the whole group, so that children of cells get SIGINT
as well; where it cannot (a kernel in a container, or remote) the kernel alone gets it, or a message to do
so itself. Each test runs one kernel through all calls. What children print arrives as output of the
kernel.
"""

import contextlib
import os
import queue
import signal

import pytest
from processes import blocked, session_members
from waiting import wait_until

KernelManager = pytest.importorskip(
    "jupyter_client", reason="Jupyter is not installed: pip install '.[test]'"
).KernelManager
jupyter_core_utils = pytest.importorskip("jupyter_core.utils")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[test]'")

jupyter_core_utils.ensure_event_loop()  # which its clients keep

pytestmark = pytest.mark.deadline(300)

BLOCKS = "about to block"
PATIENCE = 60  # seconds for an answer of the kernel
REST = 1  # seconds for what it has published before it ended
PRELUDE = """
import os, signal, threading
import fastmp
from fastmp import connection
ctx = fastmp.get_context({method!r})

def stay(end):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end.send("here")
    end.recv()

def linger(event):
    event.wait()

def hold(lock, let_go):
    with lock:
        holding.set()
        let_go.wait()

def held(lock):
    holding.clear()
    let_go.clear()
    thread = threading.Thread(target=hold, args=(lock, let_go))
    thread.start()
    holding.wait()
    return thread

holding, let_go = threading.Event(), threading.Event()
lock, rlock, semaphore, condition = ctx.Lock(), ctx.RLock(), ctx.Semaphore(0), ctx.Condition()
event, enough, barrier, value = ctx.Event(), ctx.Event(), ctx.Barrier(2), ctx.Value("i")
queue, full, simple, joinable = ctx.Queue(), ctx.Queue(1), ctx.SimpleQueue(), ctx.JoinableQueue()
ends, line = ctx.Pipe(), ctx.Pipe()
pool, manager = ctx.Pool(2), ctx.Manager()
mailbox, flag = manager.Queue(), manager.Event()
workers = [worker.pid for worker in pool._pool]
child = ctx.Process(target=stay, args=(line[1],))
child.start()
assert line[0].recv() == "here"
"""

# What is done before, the call that blocks, and what shows afterwards that all works.
CALLS = {
    "lock": (
        "thread = held(lock)",
        "lock.acquire()",
        "let_go.set(); thread.join(); assert lock.acquire(timeout=30); lock.release()",
    ),
    "rlock": (
        "thread = held(rlock)",
        "rlock.acquire()",
        "let_go.set(); thread.join(); assert rlock.acquire(timeout=30); rlock.release()",
    ),
    "with": (
        "thread = held(lock)",
        "with lock: pass",
        "let_go.set(); thread.join(); assert lock.acquire(timeout=30); lock.release()",
    ),
    "value": (
        "thread = held(value.get_lock())",
        "value.get_lock().acquire()",
        "let_go.set(); thread.join(); value.value += 1",
    ),
    "semaphore": ("", "semaphore.acquire()", "semaphore.release(); assert semaphore.acquire(timeout=30)"),
    "event": ("", "event.wait()", "event.set(); assert event.wait(30); event.clear()"),
    "condition": (
        "condition.acquire()",
        "condition.wait()",
        "assert not condition.wait(0); condition.release()",
    ),
    "barrier": (
        "",
        "barrier.wait()",
        "barrier.reset(); thread = threading.Thread(target=barrier.wait)\n"
        "thread.start(); barrier.wait(30); thread.join()",
    ),
    "queue get": ("", "queue.get()", "queue.put(1); assert queue.get(timeout=30) == 1"),
    "queue put": ("full.put(1)", "full.put(2)", "assert full.get(timeout=30) == 1; assert full.empty()"),
    "simple queue": ("", "simple.get()", "simple.put(1); assert simple.get() == 1"),
    "queue join": (
        "joinable.put(1)",
        "joinable.join()",
        "joinable.get(); joinable.task_done(); joinable.join()",
    ),
    "recv": ("", "ends[0].recv()", "ends[1].send(1); assert ends[0].recv() == 1"),
    "poll": ("", "ends[0].poll(None)", "ends[1].send(1); assert ends[0].poll(30) and ends[0].recv() == 1"),
    "connection.wait": (
        "",
        "connection.wait(ends)",
        "ends[1].send(1); assert connection.wait(ends, 30); ends[0].recv()",
    ),
    "process join": ("", "child.join()", "assert child.is_alive()"),
    "pool result": (
        "enough.clear(); result = pool.apply_async(linger, (enough,))",
        "result.get()",
        "enough.set(); assert pool.apply(abs, (-1,)) == 1",
    ),
    "imap": (
        "enough.clear(); results = pool.imap(linger, [enough])",
        "next(results)",
        "enough.set(); assert pool.apply(abs, (-1,)) == 1",
    ),
    "map": (
        "enough.clear()",
        "pool.map(linger, [enough] * 2)",
        "enough.set(); assert pool.map(abs, [-1, -2]) == [1, 2]",
    ),
    "apply": (
        "enough.clear()",
        "pool.apply(linger, (enough,))",
        "enough.set(); assert pool.apply(abs, (-1,)) == 1",
    ),
    "manager": (
        "",
        "mailbox.get()",
        "mailbox.put(1); mailbox.put(1); assert mailbox.get(True, 30) == 1",  # in the server it took one
    ),
    "manager event": ("", "flag.wait()", "flag.set(); assert flag.wait(30); flag.clear()"),
}

INTERRUPTS = {
    "the group": lambda kernel: kernel.manager.interrupt_kernel(),
    "the kernel alone": lambda kernel: os.kill(kernel.pid, signal.SIGINT),
    "itself, when told": lambda kernel: kernel.interrupt_by_message(),
}
CASES = [
    ("fork", "the group"),
    ("fork", "the kernel alone"),
    ("fork", "itself, when told"),
    ("forkserver", "the group"),
    ("forkserver", "the kernel alone"),
    ("spawn", "the group"),
]


class Kernel:
    def __init__(self, folder):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.pid = self.manager.provisioner.pid
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.printed = []

    def begin(self, cell):
        """Start a cell and wait until it is blocked in its last line."""
        request = self.client.execute(f"print({BLOCKS!r}, flush=True)\n{cell}")
        self._listen(lambda message: BLOCKS in message["content"].get("text", ""))
        wait_until(lambda: blocked(self.pid))
        return request

    def finish(self, request):
        """The reply to a cell, once all that it printed has come."""
        reply = self.client.get_shell_msg(timeout=PATIENCE)
        while reply["parent_header"]["msg_id"] != request:  # to what was asked when the kernel started
            reply = self.client.get_shell_msg(timeout=PATIENCE)
        self._listen(
            lambda message: (
                message["parent_header"].get("msg_id") == request
                and message["content"].get("execution_state") == "idle"
            )
        )
        return reply["content"]

    def run(self, cell):
        reply = self.finish(self.client.execute(cell))
        assert reply["status"] == "ok", f"{cell}\n" + "\n".join(reply["traceback"])

    def _listen(self, over, patience=PATIENCE):
        """Take what it publishes, up to the message that is asked for."""
        message = None
        while message is None or not over(message):
            message = self.client.get_iopub_msg(timeout=patience)
            if message["msg_type"] == "stream":
                self.printed.append(message["content"]["text"])

    def interrupt_by_message(self):
        """What Jupyter does if the kernel's description has the interrupt_mode "message"."""
        self.manager.kernel_spec.interrupt_mode = "message"
        self.manager.interrupt_kernel()

    def shut_down(self):
        self.manager.shutdown_kernel()
        wait_until(lambda: not session_members(self.pid))
        with contextlib.suppress(queue.Empty):
            self._listen(lambda message: False, REST)

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, os.fspath(tmp_path / name))
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.end()


@pytest.mark.parametrize("method, whom", CASES)
def test_every_call_is_interrupted(kernel, method, whom):
    kernel.run(PRELUDE.format(method=method))
    for before, call, after in CALLS.values():
        kernel.run(before)
        request = kernel.begin(call)
        INTERRUPTS[whom](kernel)
        reply = kernel.finish(request)
        assert (reply["status"], reply.get("ename")) == ("error", "KeyboardInterrupt"), call
        kernel.run(after)
    kernel.run("assert child.is_alive() and [worker.pid for worker in pool._pool] == workers")
    kernel.shut_down()
    printed = "".join(kernel.printed)
    assert set(printed.splitlines()) == {BLOCKS}, printed
