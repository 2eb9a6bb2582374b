"""The wires of test_netns.py for longer: SOAK_PARTED (60) seconds of a partition."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "links", "link_rounds", "link_speed",
                               "link_netns", "tunnel")
from helper import chance  # noqa: E402
from link_netns import delayed, half_open, lossy, parted  # noqa: E402

PARTED = int(os.environ.get("SOAK_PARTED", "60"))


def test_a_long_wire_is_filled(tmp_path, capsys):
    """With the default window."""
    reached = delayed(tmp_path, chance("soak delay"), 10)
    with capsys.disabled():
        print("%.0f %% of the wire with 50 ms each way" % (100 * reached))
    assert reached > 0.8


def test_lost_packets_cost_nothing_but_time(tmp_path, capsys):
    """1 % of them."""
    with capsys.disabled():
        print("%.2f MB/s with 1 %% loss" % lossy(tmp_path, chance("soak loss"), 60000))


def test_a_partition_costs_nothing(tmp_path, capsys):
    """No loss, no doubling, no spin, no memory, full speed soon."""
    shares, grown, full = parted(tmp_path, chance("soak parted"), PARTED)
    with capsys.disabled():
        print("parted for %d s: processor %s, memory %s, full speed behind %.2f s"
              % (PARTED, ["%.2f %%" % (100 * s) for s in shares],
                 ["%+d KB" % (g >> 10) for g in grown], full))
    assert full < 10


@pytest.mark.parametrize("number", range(10))
def test_a_half_open_connection_is_found_out(tmp_path, capsys, number):
    """The other end is killed while nothing passes."""
    twice = half_open(tmp_path, chance("soak half %d" % number), number % 2)
    with capsys.disabled():
        print("%d records came twice" % twice)
