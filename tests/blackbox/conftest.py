"""Fixtures of the black-box tests."""
import os
import pathlib
import random
import sys

import pytest

# Processes that share the tests take one seed from here.
os.environ.setdefault("SEED", str(random.SystemRandom().randrange(10**6)))

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest.register_assert_rewrite("helper", "crash", "linked", "link_rounds", "link_speed",
                               "link_netns", "link_many", "tunnel", "bus_away",
                               "bus_crash", "ports", "servers", "stores", "servers_crash")
import helper  # noqa: E402


# These measure time or memory and want the machine for themselves.
ALONE = {"test_hostile", "test_links_crash", "test_links_many", "test_links_return",
         "test_memory", "test_netns", "test_sandbox_run", "test_zmq"}


def pytest_configure(config):
    """`-m alone`, and `-m "not alone"` for those that several processes may share."""
    config.addinivalue_line("markers", "alone: wants the machine for itself")


def pytest_collection_modifyitems(items):
    """Marks whole files."""
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker("alone")


def pytest_report_header():
    """The seed, so that a failure can be repeated: SEED=n."""
    return "weir: %s  SEED=%d" % (helper.WEIR, helper.SEED)


@pytest.fixture(name="bench")
def fresh_bench(tmp_path):
    """A folder of its own, and nothing left running behind."""
    bench = helper.Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture(name="access")
def real_log():
    """The real access log, which the project does not hold."""
    if not helper.ACCESS.exists():
        pytest.skip("no %s" % helper.ACCESS)
    return helper.ACCESS


@pytest.fixture(name="small_disk")
def full_disk(bench):
    """A file system of 1 MB, mounted in the test's folder at `disk`."""
    with helper.small_disk(bench) as folder:
        if not folder:
            pytest.skip("a small file system needs the right to mount")
        yield folder
