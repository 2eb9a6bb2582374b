"""kill -9 of a weir with a durable bus: a seeded sample; `make soak` has hundreds."""
import pytest
from bus_crash import round_of_kills
from helper import chance

ROUNDS = 6


@pytest.mark.parametrize("number", range(ROUNDS))
def test_kill_9_loses_nothing_of_a_durable_bus(tmp_path, number):
    luck = chance("bus crash %d" % number)
    twice, unacknowledged, written, kills = round_of_kills(tmp_path, luck.random())
    print("%d kills, %d of %d unacknowledged records stored twice, %d written twice"
          % (kills, twice, unacknowledged, written))
