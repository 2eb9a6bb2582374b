"""Weirs in network namespaces: delay, loss, partitions, half-open connections. Needs root;
longer in tests/soak/soak_netns.py."""
import pytest
from helper import SANITIZED, chance
from link_netns import delayed, half_open, lossy, parted


def test_a_long_wire_is_filled(tmp_path):
    reached = delayed(tmp_path, chance("delay"), 2)
    print("%.0f %% of the wire with 50 ms each way" % (100 * reached))
    assert SANITIZED or reached > 0.6


def test_lost_packets_cost_nothing_but_time(tmp_path):
    print("%.2f MB/s with 1 %% loss" % lossy(tmp_path, chance("loss"), 10000))


def test_a_partition_costs_nothing(tmp_path):
    shares, grown, full = parted(tmp_path, chance("parted"), 6)
    print("processor %s, memory %s, full speed behind %.2f s"
          % (["%.2f %%" % (100 * s) for s in shares], ["%+d KB" % (g >> 10) for g in grown],
             full))
    assert full < 10


@pytest.mark.parametrize("who", [0, 1], ids=["sender", "receiver"])
def test_a_half_open_connection_is_found_out(tmp_path, who):
    print("%d records came twice" % half_open(tmp_path, chance("half %d" % who), who))
