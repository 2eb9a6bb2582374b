"""Kills, stops and cuts of links over tcp + CURVE: a sample of tests/soak/soak_links.py."""
import pytest
from helper import chance
from link_rounds import cuts_under_load, round_of_kills

ROUNDS = 4
CUTS = 12


@pytest.mark.parametrize("number", range(ROUNDS))
def test_kills_and_stops_lose_nothing(tmp_path, number):
    luck = chance("links %d" % number)
    pair, twice = round_of_kills(tmp_path, luck.random())
    print("%d kills, %d stops (%d long): %d records came twice, %d could have"
          % (pair.kills, pair.stops, pair.long_stops, twice, pair.unacknowledged()))


def test_cuts_under_load_lose_and_double_nothing(tmp_path):
    wire, sent, took = cuts_under_load(tmp_path, chance("cuts"), CUTS)
    print("%s in %.1f s, %d connections, %d blocks sent again"
          % (wire.cuts, took, wire.connections, sent.node("up")["replayed"]))
