"""A chain whose middle is killed and wiped, and many senders to one receiver."""
import pytest
from helper import SANITIZED, chance
from link_many import SENDERS, chain_of_kills, fan_in_of_kills

# What the receiver may hold of all senders: four windows, and what each gets at first;
# a window more on the way to its sink; and 20 MB for itself.
MOST = (5 * 1 + SENDERS * 0.25 + 20) * 1.1 * (1 << 20)


@pytest.mark.parametrize("number", range(2))
def test_a_middle_that_is_killed_and_wiped_loses_nothing(tmp_path, number):
    chain, twice = chain_of_kills(tmp_path, chance("chain %d" % number).random())
    print("%d kills: %d records came twice" % (chain.kills, twice))


def test_many_senders_lose_nothing(tmp_path):
    fan, twice = fan_in_of_kills(tmp_path, chance("fan-in"), 1500, 6)
    print("%d kills: %d records came twice; the receiver held %.1f MB at most"
          % (fan.kills, twice, fan.most / (1 << 20)))
    assert SANITIZED or fan.most < MOST
