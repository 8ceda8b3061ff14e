"""The package's log, and the name of the process in records."""

import logging

import pytest
from programs import run_python

LOG = r"""
import sys
{setup}
import fastmp
assert "multiprocessing" not in sys.modules or {std}
Process = fastmp.get_context("fork").Process  # others do not inherit how the log is set up
def child():
    import logging
    logging.basicConfig(format="%(processName)s %(message)s", stream=sys.stdout, force=True)
    logging.warning("one")
    fastmp.current_process().name = "renamed"
    logging.warning("two")
    p = Process(target=grandchild, name="grandchild"); p.start(); p.join()
def grandchild():
    import logging
    logging.warning("three")
p = Process(target=child, name="child"); p.start(); p.join()
import logging
logging.basicConfig(format="%(processName)s %(message)s", stream=sys.stdout, force=True)
logging.warning("four")
fastmp.current_process().name = "boss"
logging.warning("five")
"""


@pytest.mark.parametrize(
    "setup",
    ["", "import logging", "import multiprocessing", "import fastmp; fastmp.install()"],
    ids=["logging-late", "logging-early", "beside-the-standard-library", "installed"],
)
def test_log_records_carry_the_name_of_the_process(setup):
    done = run_python(LOG.format(setup=setup, std="multiprocessing" in setup or "install" in setup))
    assert done.stdout.splitlines() == [
        "child one",
        "renamed two",
        "grandchild three",
        "MainProcess four",
        "boss five",
    ]
    assert not done.stderr


@pytest.mark.start_methods("fork")  # a factory is not inherited otherwise
def test_log_record_factories_are_chained(report):
    previous = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = previous(*args, **kwargs)
        record.mine = 42
        return record

    def child():
        record = logging.getLogger("x").makeRecord("x", 30, "f", 1, "m", (), None)
        return record.processName, record.mine

    logging.setLogRecordFactory(factory)
    try:
        assert report(child, name="logger") == ("logger", 42)
    finally:
        logging.setLogRecordFactory(previous)


def test_late_logging_is_imported_as_ever():
    done = run_python(
        "import fastmp, sys\n"
        "def f():\n"
        "    import logging\n"
        "    print(type(logging.__loader__).__name__, logging.__spec__.loader is logging.__loader__)\n"
        "    print([finder for finder in sys.meta_path if 'fastmp' in repr(finder)])\n"
        "    import logging.handlers\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n"
        "sys.exit(p.exitcode)\n"
    )
    assert done.stdout == "SourceFileLoader True\n[]\n"


def test_logger_of_the_package(monkeypatch):
    done = run_python(
        "import fastmp, logging\n"
        "from fastmp import util\n"
        "assert util._logger is None and not util._log_to_stderr\n"
        "logger = fastmp.log_to_stderr(util.SUBDEBUG)\n"
        "assert logger is fastmp.get_logger() is util._logger and util._log_to_stderr\n"
        "assert logger.name == 'multiprocessing' and not logger.propagate\n"
        "for f in (util.sub_debug, util.debug, util.info, util.sub_warning, util.warn): f('%s', f.__name__)\n"
        "logger.setLevel(util.INFO)\n"
        "p = fastmp.Process(name='P'); p.start(); p.join()\n"
        "logger.setLevel(util.SUBWARNING)\n"
    )
    assert done.stderr.splitlines() == [
        "[SUBDEBUG/MainProcess] sub_debug",
        "[DEBUG/MainProcess] debug",
        "[INFO/MainProcess] info",
        "[SUBWARNING/MainProcess] sub_warning",
        "[WARNING/MainProcess] warn",
        "[INFO/P] child process calling self.run()",
        "[INFO/P] process shutting down",
        "[INFO/P] process exiting with exitcode 0",
    ]
