"""Fixtures of the black-box tests."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest.register_assert_rewrite("helper", "crash", "links", "link_rounds", "link_speed",
                               "link_netns", "link_many", "tunnel")
import helper  # noqa: E402


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
    folder = bench.path("disk")
    folder.mkdir()
    if os.geteuid() or os.system("mount -t tmpfs -o size=1m none %s 2>/dev/null" % folder):
        pytest.skip("a small file system needs the right to mount")
    yield folder
    bench.close()
    os.system("umount -l %s" % folder)
