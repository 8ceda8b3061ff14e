"""Managers: how they start, and how they end."""

import os
import select
import signal
import subprocess
import sys
import time

import pytest

import fastmp
from fastmp import managers
from fastmp._managers import client
from fastmp.managers import BaseManager, SyncManager


def test_states(ctx):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.list()
    manager.start()
    child = manager._process
    assert child.name.startswith("SyncManager-")
    for start_again in (manager.start, manager.get_server):
        with pytest.raises(fastmp.ProcessError, match="Already started server"):
            start_again()
    with manager as same:
        assert same is manager
    assert child.exitcode == 0
    with pytest.raises(fastmp.ProcessError, match="Manager has shut down"):
        manager.start()
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.list()
    manager.shutdown()
    manager.join(30)
    assert manager._process is None


def test_the_function_manager():
    with fastmp.Manager() as manager:
        assert isinstance(manager, SyncManager)
        assert manager.list([1])[:] == [1]


def test_bad_arguments(ctx):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        manager.start(5)
    with pytest.raises(KeyError):
        SyncManager(serializer="none", ctx=ctx)
    with pytest.raises(TypeError, match="not bytes"):
        managers.Server({}, None, "text", "pickle")


SETTINGS = []


def set_up(*args):
    SETTINGS.append(args)


class Settings:
    def get(self):
        return SETTINGS


class SettingsManager(BaseManager):
    pass


SettingsManager.register("Settings", Settings)


def test_initializer(ctx):
    manager = SettingsManager(ctx=ctx)
    manager.start(set_up, (1, 2))
    with manager:
        assert manager.Settings().get() == [(1, 2)]
    assert SETTINGS == []


def fail():
    raise ValueError("in the initializer")


def test_initializer_that_raises(ctx, child_output):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(EOFError, match="ended before it was ready, with exit code 1"):
        manager.start(fail)
    assert "in the initializer" in child_output.readouterr().err


def test_manager_that_nobody_keeps(ctx):
    manager = SyncManager(ctx=ctx)
    manager.start()
    items = manager.list([1])
    child = manager._process
    del manager
    assert items[:] == [1]  # proxies keep it
    del items
    child.join(30)
    assert child.exitcode is not None


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class StubbornServer(managers.Server):
    def shutdown(self, c):
        time.sleep(60)


class StubbornManager(BaseManager):
    _Server = StubbornServer


def test_manager_that_does_not_end(ctx, monkeypatch):
    monkeypatch.setattr(client, "ERRAND_SECONDS", 0.1)
    manager = StubbornManager(ctx=ctx, shutdown_timeout=0.1)
    manager.start(ignore_sigterm)
    child = manager._process
    manager.shutdown()
    assert child.exitcode == -signal.SIGKILL


def test_stopped_manager_can_be_shut_down(ctx, monkeypatch):
    monkeypatch.setattr(client, "ERRAND_SECONDS", 0.1)
    manager = SyncManager(ctx=ctx, shutdown_timeout=0.1)
    manager.start()
    child = manager._process
    os.kill(child.pid, signal.SIGSTOP)
    manager.shutdown()
    assert child.exitcode is not None


def test_stopped_manager_does_not_hold_up_a_fork(manager, ctx, finish, monkeypatch):
    monkeypatch.setattr(client, "ERRAND_SECONDS", 0.1)
    items = manager.list()
    os.kill(manager._process.pid, signal.SIGSTOP)
    child = ctx.Process(target=items.append, args=(1,))
    child.start()
    os.kill(manager._process.pid, signal.SIGCONT)
    finish(child)
    assert child.exitcode == 0
    assert items[:] == [1]


def test_interrupts_are_not_for_the_manager(manager):
    items = manager.list([1])
    os.kill(manager._process.pid, signal.SIGINT)
    assert items[:] == [1]


PARENT = """
import os, signal, sys, fastmp
manager = fastmp.Manager()
items = manager.list([1])
print(manager._process.pid, flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[1] == "forget":
    os._exit(0)
"""


@pytest.mark.parametrize("end", ["kill", "forget", "exit"])
def test_manager_ends_with_its_parent(end):
    parent = subprocess.run([sys.executable, "-c", PARENT, end], stdout=subprocess.PIPE, timeout=60)
    assert parent.returncode == (-signal.SIGKILL if end == "kill" else 0)
    try:
        handle = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], 30)
    os.close(handle)
    assert ended
