"""Failures of Weir, of the server of its bus, and of the connections between them: a sample
of tests/soak/soak_servers.py."""
import pytest
import stores
from helper import chance
from servers_crash import round_of_failures, told

ROUNDS = 3


@pytest.mark.parametrize("kind", stores.SERVERS)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_failures_lose_nothing_and_use_no_id_twice(tmp_path, kind, number):
    luck = chance("servers %s %d" % (kind, number))
    print(told(round_of_failures(tmp_path, kind, luck.random())))
