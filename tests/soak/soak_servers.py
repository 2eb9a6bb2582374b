"""The rounds of test_servers_crash.py by the hundred: SOAK_ROUNDS (100) for each server; and
a server that is away for SOAK_AWAY (60) seconds under load. SEED=n repeats them."""
import collections
import os
import pathlib
import shutil
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))
pytest.register_assert_rewrite("helper", "crash", "bus_crash", "servers", "stores",
                               "servers_crash", "test_bus_servers")
import stores  # noqa: E402
from helper import Bench, chance  # noqa: E402
from servers_crash import round_of_failures, told  # noqa: E402
from test_bus_servers import TOPOLOGY, all_came, came, given, started, stored_once, wait_for  # noqa: E402,E501

AWAY = int(os.environ.get("SOAK_AWAY", "60"))
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "100"))


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_no_failure_loses_a_record_or_uses_an_id_twice(tmp_path, capsys, kind):
    """Each round in a folder of its own; the folder of one that fails stays."""
    luck, sums = chance("soak of servers, " + kind), collections.Counter()
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        seed = luck.random()
        print("round %d in %s, seed %r" % (number, folder, seed))
        sums.update(round_of_failures(folder, kind, seed))
        shutil.rmtree(folder)
        if number % 20 == 19 or number + 1 == ROUNDS:
            with capsys.disabled():
                print("%s, %d rounds: %s" % (kind, number + 1, told(sums)), flush=True)


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_all_records_arrive_when_a_server_was_away_for_a_minute(tmp_path, capsys, kind):
    """Killed under load; the source would bring four times what the rings hold."""
    bench = Bench(tmp_path)
    lines = given(bench, "away", 200000)
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (20000, place.store()))
        wait_for(lambda: came(bench) > 20000, "some records")
        place.server.kill()
        time.sleep(AWAY)  # that it is away so long is the test
        kept = came(bench)
        place.server.start()
        all_came(bench, lines, 120)
        live.stop()
        stored_once(place, lines)
    bench.close()
    with capsys.disabled():
        print("%s, away for %d s after %d records: %d came, each once, in order"
              % (kind, AWAY, kept, len(lines)), flush=True)
